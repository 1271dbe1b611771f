"""The file of a Unix socket: whether a listener can still be reached by it.

Cleaners of temporary directories remove it; a directory that is copied and put back holds a socket by the same name
that nothing listens at. Both leave the listener running, and unreachable.
"""

import os
import socket
import stat
from pathlib import Path

from services.wire.framed import short_address


class SocketFile:
    """Of a listener that has just been opened at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made = _status(path)

    def is_lost(self) -> bool:
        """Whether nothing can connect by it any more. Where another process listens by now, it is not lost, but that
        one's."""
        now = _status(self._path)
        if now is None or self._made is None:
            return now is None
        return not os.path.samestat(now, self._made) and not _is_listened_at(self._path)


def clear_dead(path: Path) -> None:
    """Remove a socket that nothing listens at. Raises OSError."""
    now = _status(path)
    if now is not None and stat.S_ISSOCK(now.st_mode) and not _is_listened_at(path):
        path.unlink(missing_ok=True)


def _is_listened_at(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller, short_address(path) as address:
            caller.setblocking(False)  # a listener that is busy is one, too
            caller.connect(address)
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:  # no descriptor is left to ask with, say: then nothing is taken away
        return True
    return True


def _status(path: Path) -> os.stat_result | None:
    """None where there is nothing, or no way to it."""
    try:
        return path.lstat()
    except OSError:
        return None
