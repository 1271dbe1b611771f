"""The run directory: private, of one supervisor at a time, and clean."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runtime.run_dir import RunDirError, keep, run_dir


@pytest.fixture(autouse=True)
def _temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:  # after pytest has its own place
    """Short, however long pytest's own paths are: else /tmp itself is taken, where others' directories are."""
    with tempfile.TemporaryDirectory(prefix="mp-", dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        yield


def test_it_is_private_and_gone_afterwards() -> None:
    with run_dir(8000) as made:
        directory = made.path
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "a.sock").touch()
    assert not directory.exists()


def test_one_that_is_removed_is_made_again_as_private_and_ours_alone() -> None:
    with run_dir(8000) as made:
        assert not made.restore()
        shutil.rmtree(made.path)
        assert made.restore()
        assert made.path.stat().st_mode & 0o777 == 0o700
        assert not made.restore()
        with pytest.raises(RunDirError, match="another moonpool up"), run_dir(8000):
            pass
    assert not made.path.exists()


async def said(caplog: pytest.LogCaptureFixture, messages: int) -> None:
    async with asyncio.timeout(20.0):
        while len(caplog.messages) < messages:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


async def test_a_removal_is_noticed_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with run_dir(8000) as made:
        keeping = asyncio.create_task(keep(made, look_s=0.01))
        shutil.rmtree(made.path)
        await said(caplog, 1)
        assert made.path.is_dir()
        keeping.cancel()
    assert caplog.messages == ["the run directory was removed; it is made again"]


async def test_what_stands_in_its_place_is_said_and_it_is_made_again_once_that_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with run_dir(8000) as made:
        shutil.rmtree(made.path)
        made.path.touch()
        keeping = asyncio.create_task(keep(made, look_s=0.01))
        await said(caplog, 1)
        made.path.unlink()
        await said(caplog, 2)
        assert made.path.is_dir()
        keeping.cancel()
    assert caplog.messages == [
        "the run directory was removed, and can't be made again",
        "the run directory was removed; it is made again",
    ]


def test_another_supervisor_on_the_same_port_is_refused() -> None:
    with run_dir(8000), pytest.raises(RunDirError, match="another moonpool up runs on port 8000"), run_dir(8000):
        pass


def test_ports_live_side_by_side() -> None:
    with run_dir(8000) as one, run_dir(8001) as other:
        assert one.path != other.path


def test_leftovers_of_a_dead_one_are_cleared() -> None:
    with run_dir(8000) as made:
        directory = made.path
    (directory / "sessions").mkdir(parents=True)
    (directory / "store-0.sock").touch()
    with run_dir(8000) as again:
        assert [path.name for path in again.path.iterdir()] == ["lock"]


def test_leftovers_on_other_ports_are_cleared_and_the_living_are_left_alone() -> None:
    with run_dir(8000) as made:
        dead = made.path
    dead.mkdir()
    (dead / "lock").touch()
    (dead / "store-0.sock").touch()
    with run_dir(8001) as living, run_dir(8002):
        assert not dead.exists()
        assert (living.path / "lock").exists()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    with run_dir(8000) as made:
        directory = made.path
    directory.symlink_to(elsewhere)
    with pytest.raises(RunDirError, match="not ours"), run_dir(8000):
        pass
    assert (elsewhere / "precious").exists()


def test_a_path_too_long_for_a_socket_is_left_for_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    with run_dir(1) as made:
        assert made.path.parent == Path("/tmp")
