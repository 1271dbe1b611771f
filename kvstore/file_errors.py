"""What an operator is told when a file can't be had: a sentence in place of an errno, and sizes in MiB."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def told_as(error: type[Exception], what: str) -> Iterator[None]:
    """Around work on files: raises ``error`` with ``what`` and the reason, in place of an OSError."""
    try:
        yield
    except OSError as failure:
        raise error(f"{what}: {failure.strerror or failure}") from failure


def mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f} MiB"
