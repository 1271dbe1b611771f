"""A run that is kept can be read again, and is not written over by mistake."""

from pathlib import Path
from shutil import rmtree

import pytest

from loadtest.record import PoolSample
from loadtest.run_directory import RunDirectory, RunDirectoryError, read
from tests.loadtest.metrics.build import record, refused

SAMPLE = PoolSample(1.0, "decode", 1, 2, 3)


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "a" / "b") as directory:
        directory.record(record(0.5))
        directory.record(refused())
        directory.pool(SAMPLE)
        directory.summary({"completed": 1})
    found = read(tmp_path / "a" / "b")

    assert (found.records, found.pools, found.summary) == ([record(0.5), refused()], [SAMPLE], {"completed": 1})


def test_each_record_is_there_as_soon_as_it_is_told(tmp_path: Path) -> None:
    with RunDirectory(tmp_path) as directory:
        directory.record(record(0.5))
        assert list(read(tmp_path).records) == [record(0.5)]  # though nobody has closed it
        assert read(tmp_path).summary == {}


def test_where_a_run_is_none_is_written(tmp_path: Path) -> None:
    with RunDirectory(tmp_path) as directory:
        directory.record(record(0.5))

    with pytest.raises(RunDirectoryError, match=r"has a run already \(records.jsonl\); --overwrite writes over it"):
        RunDirectory(tmp_path)
    assert len(read(tmp_path).records) == 1


def test_unless_it_may(tmp_path: Path) -> None:
    with RunDirectory(tmp_path) as directory:
        directory.pool(SAMPLE)
        directory.summary({"a": 1})
    with RunDirectory(tmp_path, overwrite=True) as directory:
        directory.record(record(0.5))

    found = read(tmp_path)
    assert (len(found.records), found.pools, found.summary) == (1, [], {})


def test_what_is_no_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(RunDirectoryError, match="can't write to"):
        RunDirectory(tmp_path / "file" / "run")
    with pytest.raises(RunDirectoryError, match="is no run"):
        read(tmp_path)


def test_a_directory_that_vanishes_ends_no_run(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run") as directory:
        directory.record(record(0.5))
        rmtree(tmp_path / "run")
        directory.record(refused())
        directory.pool(SAMPLE)
        directory.summary({"completed": 2})
    assert directory.unkept == f"can't write to {tmp_path / 'run'}: No such file or directory"
