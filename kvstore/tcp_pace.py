"""The pace of links: how many bytes came from each peer, and for how long they were flowing.

Only the receiver knows when bytes flow: a transfer also waits for what is still being computed, for slots, for answers.

# waiting   header, bytes   header, bytes        waiting   header, bytes
#           |-- frame ----|-|-- frame ----|                |-- frame --|
#           |--------- a run -------------|                |-- a run --|

A run is frames that follow one another: gaps of at most ``GAP_S`` are the work between two frames, and count as
flowing. What the kernel had already received when a run began came before it, so it is taken off: else a thread that
woke up late would find an infinitely fast link. What is then shorter than ``LEAST_BYTES`` is left out.

Time in which several connections receive is divided among them. The sender tells on how many it sends, and the share is
the less of both: so what is found is the pace of whoever flows alone. Decryption and checksums are within it, as is
what a busy machine takes from its threads. Methods may be called by any thread; a run is its connection's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from threading import Lock

from kvstore.transfer import Came

GAP_S = 1e-4
"""From the last byte of a frame to having read the next header, where that was there already: 30 to 60 µs."""

LEAST_BYTES = 1 << 20
"""0.3 ms at 3 GB/s. Below, it is wake-ups that are measured, and of lone layers of a small model only those that were
late: what never comes back to back is hidden behind whatever it waits for, so its pace decides nothing."""

PEERS = 256
"""Of which something is remembered until it is asked for; twice the connections that there may be."""


class Meter:
    """Of one store: who is flowing now, and what has come."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._receiving = self._sending = 0
        self._share_s = self._since_s = 0.0
        """Seconds that whoever is receiving has had for itself, and as of when."""
        self._came: dict[str, Came] = {}

    def enters(self, *, now: float) -> float:
        """One more connection receives. What it has to subtract when it leaves."""
        return self._changes(1, now)

    def leaves(self, *, now: float) -> float:
        return self._changes(-1, now)

    @contextmanager
    def sending(self) -> Iterator[int]:
        """One more connection sends; how many do."""
        with self._lock:
            self._sending += 1
            count = self._sending
        try:
            yield count
        finally:
            with self._lock:
                self._sending -= 1

    def came(self, source: str, size_bytes: int, seconds: float) -> None:
        with self._lock:
            known = self._came.get(source)
            if known is not None:
                self._came[source] = Came(source, known.size_bytes + size_bytes, known.seconds + seconds)
            elif len(self._came) < PEERS:
                self._came[source] = Came(source, size_bytes, seconds)

    def take(self) -> tuple[Came, ...]:
        """What has come since this was last asked."""
        with self._lock:
            came, self._came = self._came, {}
        return tuple(came.values())

    def _changes(self, by: int, now: float) -> float:
        with self._lock:
            if self._receiving:
                self._share_s += max(0.0, now - self._since_s) / self._receiving
            self._since_s = max(now, self._since_s)
            self._receiving += by
            return self._share_s


@dataclass(slots=True)
class Run:
    """One connection's frames from one peer; its methods come in the order in which they stand here."""

    meter: Meter
    source: str
    _size_bytes: int = 0
    _seconds: float = 0.0
    """Of this run, not told to the meter yet."""
    _began_s: float = 0.0
    _ended_s: float = field(default=-inf)
    _gap_s: float = 0.0
    _share_s: float = 0.0

    def begins(self, *, now: float, waiting_bytes: Callable[[], int]) -> None:
        """A frame's header was read. waiting_bytes: asks how many bytes are there already."""
        self._gap_s = now - self._ended_s
        if self._gap_s > GAP_S:
            self._size_bytes, self._seconds, self._gap_s = -waiting_bytes(), 0.0, 0.0
        self._began_s, self._share_s = now, self.meter.enters(now=now)

    def breaks(self, *, now: float) -> None:
        """The connection did, within the frame."""
        self.meter.leaves(now=now)

    def ends(self, size_bytes: int, *, sharing: int, now: float) -> None:
        """All of the frame is there. sharing: how many connections its sender was sending on."""
        alone_s, took_s = self.meter.leaves(now=now) - self._share_s, now - self._began_s
        share = min(alone_s / took_s, 1.0 / sharing) if took_s > 0.0 else 0.0
        self._ended_s = now
        self._size_bytes += size_bytes
        self._seconds += share * (self._gap_s + took_s)
        if self._size_bytes >= LEAST_BYTES and self._seconds > 0.0:
            self.meter.came(self.source, self._size_bytes, self._seconds)
            self._size_bytes, self._seconds = 0, 0.0
