"""The lock by which a store knows that this worker lives.

A file of this incarnation's own, locked until the process ends, however it ends. It is
released only when nothing of this process can touch the arena any more.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

SUFFIX = ".session"


class SessionLock:
    """Held from the beginning until ``release``, or the process's end."""

    def __init__(self, directory: Path, worker: str, incarnation: int) -> None:
        """Also removes what dead processes of this name have left. Raises OSError where the file can't be made."""
        for leftover in directory.glob(f"{worker}-*{SUFFIX}"):
            _remove_if_free(leftover)
        self.path = directory / f"{worker}-{incarnation:016x}{SUFFIX}"
        self._descriptors = [self._made()]

    def restore(self) -> None:
        """Where the file was removed, or another put in its place, make one of its name; a store that has opened the
        first still finds it locked. Raises OSError where it can't be made."""
        if self._descriptors and not self._is_there():
            self.path.unlink(missing_ok=True)  # a copy of ours is not locked: to a store we would be dead
            self._descriptors.append(self._made())

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(self.path.lstat(), os.fstat(self._descriptors[-1]))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """From here on the store may give our slots to others. Idempotent."""
        if self._descriptors:
            with suppress(FileNotFoundError, NotADirectoryError):  # its directory may be gone, or a file by now
                self.path.unlink()
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _made(self) -> int:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor


def _remove_if_free(path: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(descriptor)
