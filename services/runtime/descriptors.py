"""Files and sockets that this process may have open at the same time."""

import resource
from contextlib import suppress


def raise_soft_limit() -> int:
    """Raise the soft limit of open files to the hard one, as Go's runtime does; the limit that holds then.

    Distributions keep the soft limit at 1,024 for programs that call select(), which can't name a higher descriptor
    (systemd's guidance on RLIMIT_NOFILE). Nothing here does: asyncio and gRPC use epoll, sockets with a time-out poll.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # the kernel's own bound may be lower: then what there is remains
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return open_files_limit()


def open_files_limit() -> int:
    """The soft limit."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
