"""The run directory: private, of one supervisor at a time, and clean."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runtime.run_dir import RunDirError, run_dir


@pytest.fixture(autouse=True)
def _temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Short, however long pytest's own paths are: else /tmp itself is taken, where others' directories are."""
    with tempfile.TemporaryDirectory(prefix="mp-", dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        yield


def test_it_is_private_and_gone_afterwards() -> None:
    with run_dir(8000) as directory:
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "a.sock").touch()
    assert not directory.exists()


def test_another_supervisor_on_the_same_port_is_refused() -> None:
    with run_dir(8000), pytest.raises(RunDirError, match="another moonpool up runs on port 8000"), run_dir(8000):
        pass


def test_ports_live_side_by_side() -> None:
    with run_dir(8000) as one, run_dir(8001) as other:
        assert one != other


def test_leftovers_of_a_dead_one_are_cleared() -> None:
    with run_dir(8000) as directory:
        pass
    (directory / "sessions").mkdir(parents=True)
    (directory / "store-0.sock").touch()
    with run_dir(8000) as again:
        assert [path.name for path in again.iterdir()] == ["lock"]


def test_leftovers_on_other_ports_are_cleared_and_the_living_are_left_alone() -> None:
    with run_dir(8000) as dead:
        pass
    dead.mkdir()
    (dead / "lock").touch()
    (dead / "store-0.sock").touch()
    with run_dir(8001) as living, run_dir(8002):
        assert not dead.exists()
        assert (living / "lock").exists()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    with run_dir(8000) as directory:
        pass
    directory.symlink_to(elsewhere)
    with pytest.raises(RunDirError, match="not ours"), run_dir(8000):
        pass
    assert (elsewhere / "precious").exists()


def test_a_path_too_long_for_a_socket_is_left_for_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    with run_dir(1) as directory:
        assert directory.parent == Path("/tmp")
