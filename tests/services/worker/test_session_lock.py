"""A worker's lock tells that it lives; what dead ones have left is cleared by the next of their name."""

from pathlib import Path

from services.store.liveness import SessionFile, is_alive
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


def test_a_file_whose_name_was_removed_still_proves_that_the_worker_lives(tmp_path: Path) -> None:
    """As when a temporary directory is cleaned under both; the worker may be stopped, and write later."""
    lock = SessionLock(tmp_path, "decode-0", 1)
    before = SessionFile(lock.path)
    lock.path.unlink()
    assert before.is_alive()
    lock.restore()
    after = SessionFile(lock.path)
    assert before.is_alive()
    assert after.is_alive()
    lock.release()
    assert not before.is_alive()
    assert not after.is_alive()
    for each in (before, after):
        each.close()


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    lock = SessionLock(tmp_path, "decode-0", 1)
    inode = lock.path.stat().st_ino
    lock.restore()
    assert lock.path.stat().st_ino == inode
    lock.release()
    lock.restore()
    assert not lock.path.exists()


def test_a_copy_in_its_place_which_is_not_locked_is_replaced(tmp_path: Path) -> None:
    lock = SessionLock(tmp_path, "decode-0", 1)
    copy = tmp_path / "copy"
    copy.touch()
    copy.replace(lock.path)
    assert not is_alive(lock.path)
    lock.restore()
    assert is_alive(lock.path)
    lock.release()
    assert list(tmp_path.iterdir()) == []
