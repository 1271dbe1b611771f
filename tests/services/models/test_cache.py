"""A directory that is made once, whole or not at all."""

import multiprocessing
from pathlib import Path

import pytest

from services.models.cache import make_once


def hidden(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if ".making-" in path.name]


def write_one(directory: Path) -> None:
    (directory / "weights").write_text("one")


def write_two(directory: Path) -> None:
    (directory / "weights").write_text("two")


def never(directory: Path) -> None:
    raise AssertionError("made again")


def test_it_is_made_the_first_time_only(tmp_path: Path) -> None:
    place = make_once(tmp_path / "models" / "m", "v1", write_one)
    assert (place / "weights").read_text() == "one"
    make_once(place, "v1", never)


def test_another_origin_makes_it_anew(tmp_path: Path) -> None:
    make_once(tmp_path / "m", "v1", write_one)
    make_once(tmp_path / "m", "v2", write_two)
    assert (tmp_path / "m" / "weights").read_text() == "two"
    assert not hidden(tmp_path)


def test_a_failure_leaves_nothing_new_and_the_old_as_it_was(tmp_path: Path) -> None:
    make_once(tmp_path / "m", "v1", write_one)

    def fail(directory: Path) -> None:
        (directory / "weights").write_text("half")
        raise RuntimeError("power")

    with pytest.raises(RuntimeError):
        make_once(tmp_path / "m", "v2", fail)
    assert (tmp_path / "m" / "weights").read_text() == "one"
    assert not hidden(tmp_path)


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".m.making-dead").mkdir()
    make_once(tmp_path / "m", "v1", write_one)
    assert not hidden(tmp_path)


def test_a_directory_without_a_marker_is_not_taken_for_whole(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    make_once(tmp_path / "m", "v1", write_one)
    assert (tmp_path / "m" / "weights").exists()


def _second(place: Path, waits: "multiprocessing.synchronize.Event") -> None:
    make_once(place, "v1", never, on_wait=waits.set)


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    waits = context.Event()
    other = context.Process(target=_second, args=(tmp_path / "m", waits))

    def make(directory: Path) -> None:
        other.start()
        assert waits.wait(30), "the second process never came to the lock"
        write_one(directory)

    make_once(tmp_path / "m", "v1", make)
    other.join(30)
    assert other.exitcode == 0
