"""Whether a worker lives, by the lock that it holds on its session file.

The kernel lets go of the lock when the worker dies, however it dies; a stopped
worker keeps it. So a free lock is proof that nobody will touch the arena any more.
"""

import fcntl
import os
from pathlib import Path


def is_alive(session_file: Path) -> bool:
    """False where the file is gone or nobody has it locked."""
    try:
        descriptor = os.open(session_file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # it can't be looked at, so nothing is proven
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
