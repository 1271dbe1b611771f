"""The shared-memory file that slots are cut from.

A store creates it, reserves every page of it, and holds a lock on it for as long as it
lives; workers of the same user map it by its path. What no living store holds locked is a
leftover, cleared by the next one. Nothing here knows what a slot or a block is.
"""

import errno
import fcntl
import mmap
import os
import stat
from contextlib import suppress
from pathlib import Path

from kvstore.file_errors import mib, told_as

PREFIX = "moonpool-"
"""How every arena's file name starts, so that leftovers can be told from other people's files."""


DOOR = ".sock"
"""What follows an arena's path in that of the socket which its store may keep beside it; it goes with the arena."""


class ArenaError(Exception):
    """The arena can't be made, found or closed; the message is a sentence for the operator."""


class Arena:
    """A mapped arena. ``view`` is its memory, writable bytes; gone once it is closed."""

    def __init__(self, path: Path, descriptor: int, size_bytes: int) -> None:
        """Maps and owns ``descriptor``; use ``create`` or ``open``."""
        self.path = path
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, size_bytes)
        self.view = memoryview(self._map)

    @classmethod
    def create(cls, directory: Path, name: str, size_bytes: int) -> "Arena":
        """A new arena of zeros, mode 0600, every page reserved, locked until it is closed or this process ends.

        Reserving takes 0.1 to 0.5 s per GiB. ArenaError where there is too little room,
        or the directory can't be used; nothing is left behind then.
        """
        if not name.startswith(PREFIX) or "/" in name:
            raise ValueError(f"an arena's name starts with {PREFIX}: {name}")
        if size_bytes < 1:
            raise ValueError(f"an arena needs at least one byte, not {size_bytes}")
        path = directory / name
        with told_as(ArenaError, f"the arena {path} can't be created"):
            descriptor = _create_locked(path)
            try:
                _reserve(descriptor, directory, size_bytes)
                return cls(path, descriptor, size_bytes)
            except BaseException:
                path.unlink(missing_ok=True)
                os.close(descriptor)
                raise

    @classmethod
    def open(cls, path: Path) -> "Arena":
        """Map an arena that a store has created. ArenaError where it is gone, or is not this user's."""
        with told_as(ArenaError, f"the arena {path} can't be opened"):
            held = path.is_relative_to("/proc")  # another process's descriptor, which is a link by its nature
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (0 if held else os.O_NOFOLLOW))
            try:
                status = os.fstat(descriptor)
                if not _is_ours(status) or not status.st_size:
                    raise ArenaError(f"the arena {path} can't be opened: it is no arena of this user")
                return cls(path, descriptor, status.st_size)
            except BaseException:
                os.close(descriptor)
                raise

    @property
    def is_named(self) -> bool:
        """Whether its path leads to it still, rather than to nothing or to another file."""
        try:
            return os.path.samestat(self.path.lstat(), os.fstat(self._descriptor))
        except OSError:
            return False

    @property
    def reachable(self) -> Path:
        """Where ``open`` finds it: its path, or where that was removed, this process's hold on it.

        A file without a name can't be given one again, so that other processes of this user go by the descriptor.
        """
        return self.path if self.is_named else Path(f"/proc/{os.getpid()}/fd/{self._descriptor}")

    @property
    def size_bytes(self) -> int:
        return len(self.view)

    def close(self) -> None:
        """Unmap it, and give up its lock; fine if it is closed. ArenaError where a view of it is still in use.

        Nothing has changed then, so it can be closed again once that view is gone.
        """
        if self._map.closed:
            return
        try:
            self.view.release()
            self._map.close()
        except BufferError:
            self.view = memoryview(self._map)
            raise ArenaError(f"the arena {self.path} can't be closed: its memory is still in use") from None
        os.close(self._descriptor)

    def unlink(self) -> None:
        """Remove its name and its door; those who have it mapped keep it until they close it. Fine if it is gone."""
        _unlink(self.path)


def clear_leftovers(directory: Path, prefix: str = PREFIX) -> list[Path]:
    """Unlink this user's arenas that no living process has locked; returns their paths."""
    assert prefix.startswith(PREFIX), "other people's files are none of our business"
    with told_as(ArenaError, f"the directory {directory} can't be searched for leftovers"):
        return [path for path in sorted(directory.glob(prefix + "*")) if _cleared(path)]


def _create_locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            os.fchmod(descriptor, 0o600)  # whatever the umask took away
            return descriptor
        os.close(descriptor)  # somebody cleared leftovers between those two calls, and took it for one


def _reserve(descriptor: int, directory: Path, size_bytes: int) -> None:
    """Without this, a full directory would be a SIGBUS at some later write."""
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as failure:
        if failure.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT, errno.EFBIG):
            raise
        space = os.statvfs(directory)
        raise ArenaError(
            f"the arena needs {mib(size_bytes)} in {directory}, which has {mib(space.f_bavail * space.f_frsize)}"
            " free: give a smaller --dram, or an --arena-dir with more room"
        ) from failure


def _cleared(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False  # gone meanwhile, somebody else's, or no file at all
    try:
        if not _is_ours(os.fstat(descriptor)):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _unlink(path)
    except OSError:
        return False  # locked by a living store, or cleared by another one just now
    finally:
        os.close(descriptor)
    return True


def _unlink(path: Path) -> None:
    """The arena last: a door without one takes a call to tell whether it is in use."""
    for each in (door_of(path), path):
        with suppress(FileNotFoundError, NotADirectoryError):  # the directory may be gone, or a file by now
            each.unlink()


def door_of(arena: Path) -> Path:
    return arena.with_name(arena.name + DOOR)


def _is_ours(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
