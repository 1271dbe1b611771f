"""The run directory of one deployment: sockets and session locks, owned by one supervisor at a time.

Mode 0700, locked for as long as the supervisor lives. A clean end removes it; what a
dead supervisor left is removed by the next one, on whichever port. One that is removed while its supervisor
lives is made again.
"""

import asyncio
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from services.runtime.logs import fields

PATIENCE_S = 0.5
"""Another supervisor may hold our lock for a moment, to clear what it takes for leftovers."""

LOOK_S = 0.5
"""Between looks whether it is still there: cleaners of temporary directories don't know that it is in use."""

LOCK = "lock"
LONGEST_SOCKET_PATH = 107
LONGEST_SOCKET_NAME = len("conductor-0.sock")


log = logging.getLogger(__name__)


class RunDirError(Exception):
    """No run directory can be had; the message is a sentence for the operator."""


class RunDir:
    """Ours for as long as this object is open, at ``path``."""

    def __init__(self, port: int) -> None:
        """Raises RunDirError."""
        self._port = port
        self.path = _place(port)
        self._lock = _lock(self.path, port)

    def restore(self) -> bool:
        """Make it again where it was removed, lock and all; whether it was. Raises RunDirError."""
        if _is_still(self.path / LOCK, self._lock):
            return False
        try:
            locked = _lock(self.path, self._port)
        except OSError as error:
            raise RunDirError(f"{self.path} can't be used: {error.strerror}") from error
        os.close(self._lock)
        self._lock = locked
        return True

    def close(self) -> None:
        """Removes it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


@contextmanager
def run_dir(port: int) -> Iterator[RunDir]:
    """The run directory of the deployment on ``port``, empty but for its lock. Raises RunDirError."""
    made = RunDir(port)
    with closing(made):
        _clear(made.path)
        for other in made.path.parent.glob(f"moonpool-{os.getuid()}-*"):
            if other != made.path:
                _remove_if_dead(other)
        yield made


async def keep(made: RunDir, *, look_s: float = LOOK_S) -> None:
    """Restore it whenever it was removed, until cancelled; each removal is said once.

    What has its socket there makes it again itself (``services.wire.served``).
    """
    failed = False
    while True:
        await asyncio.sleep(look_s)
        try:
            if made.restore():
                log.warning("the run directory was removed; it is made again", extra=fields(path=made.path))
            failed = False
        except RunDirError as error:
            if not failed:
                log.error("the run directory was removed, and can't be made again", extra=fields(reason=str(error)))
            failed = True


def _place(port: int) -> Path:
    """In the temporary directory; in /tmp where that one's path is too long for a socket's address."""
    name = f"moonpool-{os.getuid()}-{port}"
    for base in (Path(tempfile.gettempdir()), Path("/tmp")):
        directory = base / name
        if len(os.fsencode(directory)) + 1 + LONGEST_SOCKET_NAME <= LONGEST_SOCKET_PATH:
            return directory
    raise RunDirError(f"{directory} is too long a path for Unix sockets")


def _lock(directory: Path, port: int) -> int:
    """An open, locked descriptor of the directory's lock file; the kernel lets go of it when we die."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise RunDirError(f"{directory} can't be made: {error.strerror}") from error
        status = directory.lstat()
        if directory.is_symlink() or status.st_uid != os.getuid():
            raise RunDirError(f"{directory} is not ours; remove it, or choose another --port")
        directory.chmod(0o700)
        path = directory / LOCK
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # its last owner has just removed it
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            if time.monotonic() < deadline:
                time.sleep(PATIENCE_S / 10)
                continue
            raise RunDirError(f"another moonpool up runs on port {port}; stop it, or choose another --port") from None
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)


def _remove_if_dead(directory: Path) -> None:
    """Remove a run directory of ours whose lock nobody holds; one that has no lock yet is just being made."""
    try:
        if directory.is_symlink() or directory.lstat().st_uid != os.getuid():
            return
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(directory / LOCK, descriptor):
            shutil.rmtree(directory, ignore_errors=True)
    except BlockingIOError:  # its supervisor lives
        pass
    finally:
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the locked file is the one that others will find, and not one just removed by its last owner."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:  # gone, or no way to it any more
        return False


def _clear(directory: Path) -> None:
    for leftover in directory.iterdir():
        if leftover.name == LOCK:
            continue
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
