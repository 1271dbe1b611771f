"""The shared-memory file: reserved before it is used, private, locked, and never left behind."""

import errno
import fcntl
import mmap
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kvstore.arena import Arena, ArenaError, clear_leftovers, door_of

SIZE = 8 * 4096


def test_what_a_worker_writes_the_store_reads(tmp_path: Path) -> None:
    store = Arena.create(tmp_path, "moonpool-a", SIZE)
    worker = Arena.open(store.path)
    assert store.size_bytes == worker.size_bytes == SIZE
    worker.view[4096:4101] = b"hello"
    assert bytes(store.view[4096:4101]) == b"hello"
    assert bytes(store.view[:4096]) == bytes(4096), "an arena starts as zeros"
    worker.close()
    store.close()


def test_another_process_sees_the_same_bytes(tmp_path: Path) -> None:
    arena = Arena.create(tmp_path, "moonpool-a", SIZE)
    program = (
        "import sys; from pathlib import Path; from kvstore.arena import Arena\n"
        "arena = Arena.open(Path(sys.argv[1])); arena.view[0:5] = b'hello'; arena.close()"
    )
    subprocess.run([sys.executable, "-c", program, str(arena.path)], check=True, cwd=Path(__file__).parents[2])
    assert bytes(arena.view[:5]) == b"hello"
    arena.close()


def test_every_page_is_reserved(tmp_path: Path) -> None:
    arena = Arena.create(tmp_path, "moonpool-a", SIZE)
    assert arena.path.stat().st_blocks * 512 >= SIZE
    arena.close()


def test_only_its_user_may_open_it_whatever_the_umask_says(tmp_path: Path) -> None:
    for umask in (0o000, 0o777):
        before = os.umask(umask)
        try:
            arena = Arena.create(tmp_path, f"moonpool-{umask}", SIZE)
        finally:
            os.umask(before)
        assert stat.S_IMODE(arena.path.stat().st_mode) == 0o600
        arena.close()


def test_a_directory_without_room_is_a_sentence_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(
        ArenaError, match=r"the arena needs 64 MiB in .* MiB free: give a smaller --dram, or an --arena"
    ):
        Arena.create(tmp_path, "moonpool-a", 64 * 2**20)
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_more_than_any_disk_has_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArenaError, match="the arena needs 1,099,511,627,776 MiB in"):
        Arena.create(tmp_path, "moonpool-a", 2**60)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_disk_is_a_sentence_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "posix_fallocate", broken)
    with pytest.raises(ArenaError, match=r"moonpool-a can't be created: Input/output error"):
        Arena.create(tmp_path, "moonpool-a", SIZE)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_mapped_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, length: int) -> mmap.mmap:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(ArenaError, match="can't be created: Cannot allocate memory"):
        Arena.create(tmp_path, "moonpool-a", SIZE)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArenaError, match="can't be created: No such file or directory"):
        Arena.create(tmp_path / "none", "moonpool-a", SIZE)


def test_an_arena_that_exists_is_never_taken_over(tmp_path: Path) -> None:
    first = Arena.create(tmp_path, "moonpool-a", SIZE)
    first.view[0] = 7
    with pytest.raises(ArenaError, match="can't be created: File exists"):
        Arena.create(tmp_path, "moonpool-a", SIZE)
    assert first.view[0] == 7
    first.close()


@pytest.mark.parametrize("name", ["a", "moonpool-../a"])
def test_a_name_that_could_not_be_told_from_other_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name starts with moonpool-"):
        Arena.create(tmp_path, name, SIZE)


def test_an_empty_arena_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        Arena.create(tmp_path, "moonpool-a", 0)


def test_an_arena_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArenaError, match="can't be opened: No such file or directory"):
        Arena.open(tmp_path / "moonpool-a")


def test_only_files_are_opened(tmp_path: Path) -> None:
    os.symlink(tmp_path / "elsewhere", tmp_path / "moonpool-link")
    (tmp_path / "moonpool-empty").touch()
    for name in ("moonpool-link", "moonpool-empty"):
        with pytest.raises(ArenaError, match="can't be opened"):
            Arena.open(tmp_path / name)


def test_an_arena_is_locked_until_it_is_closed(tmp_path: Path) -> None:
    arena = Arena.create(tmp_path, "moonpool-a", SIZE)
    with arena.path.open() as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        arena.close()
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_worker_that_has_it_open_does_not_keep_it_locked(tmp_path: Path) -> None:
    store = Arena.create(tmp_path, "moonpool-a", SIZE)
    worker = Arena.open(store.path)
    store.close()
    assert clear_leftovers(tmp_path) == [store.path]
    assert worker.view[0] == 0, "what is mapped stays until it is closed"
    worker.close()


def test_leftovers_of_the_dead_are_cleared_and_arenas_of_the_living_are_not(tmp_path: Path) -> None:
    living = Arena.create(tmp_path, "moonpool-living", SIZE)
    dead = Arena.create(tmp_path, "moonpool-dead", SIZE)
    dead.close()
    assert clear_leftovers(tmp_path) == [dead.path]
    assert [path.name for path in tmp_path.iterdir()] == ["moonpool-living"]
    living.close()


def test_the_door_beside_an_arena_goes_with_it(tmp_path: Path) -> None:
    arenas = [Arena.create(tmp_path, f"moonpool-{name}", SIZE) for name in ("living", "dead", "ending")]
    for arena in arenas:
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(os.path.relpath(door_of(arena.path)))  # a short one, as a socket's address must be
    arenas[1].close()
    assert clear_leftovers(tmp_path) == [arenas[1].path]
    arenas[2].unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moonpool-living", "moonpool-living.sock"]
    for arena in arenas:
        arena.close()


def test_a_store_that_was_killed_leaves_a_leftover_that_can_be_cleared(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from kvstore.arena import Arena\n"
        "arena = Arena.create(Path(sys.argv[1]), 'moonpool-killed', 4096); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, cwd=Path(__file__).parents[2])
    assert clear_leftovers(tmp_path) == [tmp_path / "moonpool-killed"]


def test_nothing_but_unlocked_files_of_that_prefix_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    (tmp_path / "moonpool-directory").mkdir()
    os.mkfifo(tmp_path / "moonpool-pipe")
    (tmp_path / "target").touch()
    (tmp_path / "moonpool-link").symlink_to(tmp_path / "target")
    (tmp_path / "moonpool-mine").touch()
    (tmp_path / "moonpool-other").touch()
    before = {path.name for path in tmp_path.iterdir()}
    assert clear_leftovers(tmp_path, "moonpool-mine") == [tmp_path / "moonpool-mine"]
    assert {path.name for path in tmp_path.iterdir()} == before - {"moonpool-mine"}
    assert clear_leftovers(tmp_path) == [tmp_path / "moonpool-other"]
    assert {path.name for path in tmp_path.iterdir()} == before - {"moonpool-mine", "moonpool-other"}


def test_a_directory_without_leftovers_or_none_at_all_is_fine(tmp_path: Path) -> None:
    assert clear_leftovers(tmp_path) == []
    assert clear_leftovers(tmp_path / "none") == []


def test_a_new_arena_that_is_taken_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody clears leftovers in the instant between its creation and its lock."""
    lock, cleared = fcntl.flock, list[Path]()

    def late_lock(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not cleared:
            cleared.extend(clear_leftovers(tmp_path))
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late_lock)
    arena = Arena.create(tmp_path, "moonpool-a", SIZE)
    assert cleared == [arena.path]
    assert arena.path.exists()
    assert clear_leftovers(tmp_path) == []
    arena.close()


def test_an_arena_in_use_is_not_closed_under_its_reader(tmp_path: Path) -> None:
    arena = Arena.create(tmp_path, "moonpool-a", SIZE)
    for look in (np.frombuffer(arena.view, dtype=np.uint8), arena.view[4096:8192]):
        with pytest.raises(ArenaError, match="its memory is still in use"):
            arena.close()
        assert arena.view[0] == 0
        assert len(look) > 0
        del look
    arena.close()


def test_to_close_or_unlink_twice_is_fine_and_no_descriptor_is_left(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    arena = Arena.create(tmp_path, "moonpool-a", SIZE)
    worker = Arena.open(arena.path)
    for _ in range(2):
        arena.unlink()
        arena.close()
        worker.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert list(tmp_path.iterdir()) == []


def test_to_unlink_it_is_fine_where_its_directory_is_gone_or_a_file_by_now(tmp_path: Path) -> None:
    directory = tmp_path / "arenas"
    directory.mkdir()
    arena = Arena.create(directory, "moonpool-a", SIZE)
    shutil.rmtree(directory)
    arena.unlink()
    directory.touch()
    arena.unlink()
    arena.close()


def test_an_arena_is_reached_by_its_path_or_where_that_was_removed_by_its_descriptor(tmp_path: Path) -> None:
    arena = Arena.create(tmp_path, "moonpool-a", 4096)
    assert (arena.is_named, arena.reachable) == (True, arena.path)
    arena.path.unlink()
    assert not arena.is_named
    other = Arena.open(arena.reachable)
    arena.view[:3] = b"abc"
    assert bytes(other.view[:3]) == b"abc"
    other.close()

    arena.path.write_bytes(b"x" * 4096)
    assert not arena.is_named, "another file has its name"
    arena.close()
