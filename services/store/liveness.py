"""Whether a worker lives, by the lock that it holds on its session file.

The kernel lets go of the lock when the worker dies, however it dies; a stopped
worker keeps it. So a free lock is proof that it will not touch the arena any more.
"""

import fcntl
import os
from pathlib import Path


class SessionFile:
    """One worker's. It is opened when the worker comes: if its name is removed later, it proves what it proved."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = _opened(path)

    def is_alive(self) -> bool:
        """False where the file was not there, or is not locked."""
        return is_alive(self._path) if self._descriptor is None else _is_locked(self._descriptor)

    def close(self) -> None:
        """It is asked no more; idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_alive(session_file: Path) -> bool:
    """False where the file is gone or is not locked."""
    try:
        descriptor = os.open(session_file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # it can't be looked at, so nothing is proven
    try:
        return _is_locked(descriptor)
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    """By another process; the lock is not kept."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
