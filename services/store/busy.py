"""For how long a disk has been busy, and with how many bytes: several requests at a time count once."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock


class Busy:
    """Methods may be called by any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._requests = 0
        self._since_s = 0.0
        self._size_bytes, self._seconds = 0, 0.0

    @contextmanager
    def request(self, size_bytes: int) -> Iterator[None]:
        """One that moves so many bytes within this block; none where it fails."""
        self._changes(1)
        moved = 0
        try:
            yield
            moved = size_bytes
        finally:
            self._changes(-1, moved)

    def take(self) -> tuple[int, float]:
        """Bytes and seconds since this was last asked, of requests that have ended, and as long as they took."""
        with self._lock:
            taken, self._size_bytes, self._seconds = (self._size_bytes, self._seconds), 0, 0.0
        return taken

    def _changes(self, by: int, size_bytes: int = 0) -> None:
        with self._lock:
            now = self._clock()
            if self._requests:
                self._seconds += now - self._since_s
            self._since_s = now
            self._requests += by
            self._size_bytes += size_bytes
