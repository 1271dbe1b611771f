"""A worker's lock tells that it lives; what dead ones have left is cleared by the next of their name."""

from pathlib import Path

from services.store.liveness import is_alive
from services.worker.session_lock import SessionLock


def test_a_lock_is_held_until_it_is_released(tmp_path: Path) -> None:
    lock = SessionLock(tmp_path, "decode-0", 1)
    assert is_alive(lock.path)
    lock.release()
    lock.release()
    assert not is_alive(lock.path)
    assert list(tmp_path.iterdir()) == []


def test_files_that_nobody_locks_are_removed_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    leftover = tmp_path / "decode-0-00.session"
    leftover.touch()
    assert not is_alive(leftover)
    other = tmp_path / "decode-1-00.session"
    other.touch()
    first, second = SessionLock(tmp_path, "decode-0", 1), SessionLock(tmp_path, "decode-0", 2)
    assert sorted(tmp_path.iterdir()) == sorted([first.path, second.path, other])
    first.release()
    second.release()
