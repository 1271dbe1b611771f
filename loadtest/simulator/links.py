"""The network: every host has one link, full duplex, and shares each direction evenly among its transfers.

A transfer runs at the lesser of its share at the sender and its share at the receiver. What one end leaves
unused is not given to others (max-min fairness would), so a mixed load is a little slower here than it could be.
What receivers are told of their transfers is what live ones measure: bytes, and their share of the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from loadtest.simulator.events import Act, Event, Events
from scheduler.vocabulary import StoreId


@dataclass(frozen=True, slots=True)
class Flowed:
    """Bytes that came, and the seconds that they would have taken alone."""

    size_bytes: int
    seconds: float


@dataclass(slots=True, eq=False)
class Transfer:
    """On its way. left_bytes: as of ``since_s``. alone_s: seconds of links that had nothing else to do, until then."""

    source: str
    target: str
    size_bytes: int
    left_bytes: float
    done: Act
    since_s: float
    bytes_per_s: float = 0.0
    sharing: int = 1
    alone_s: float = 0.0
    told: Flowed = Flowed(0, 0.0)
    event: Event | None = None

    def flowed(self, now: float) -> Flowed:
        """Since it began."""
        left_bytes = self.left_bytes - self.bytes_per_s * (now - self.since_s)
        alone_s = self.alone_s + (now - self.since_s) / self.sharing
        return Flowed(self.size_bytes - max(0, round(left_bytes)), alone_s)


@dataclass(slots=True)
class _Link:
    """One host's. The keys of a dict keep the order in which transfers came. came: by source, not yet told."""

    sends: dict[int, Transfer] = field(default_factory=dict)
    receives: dict[int, Transfer] = field(default_factory=dict)
    came: dict[str, Flowed] = field(default_factory=dict)

    def come(self, transfer: Transfer, now: float) -> None:
        """What has flowed of it since this was last asked."""
        flowed, told = transfer.flowed(now), transfer.told
        known = self.came.get(transfer.source, Flowed(0, 0.0))
        size_bytes, seconds = flowed.size_bytes - told.size_bytes, flowed.seconds - told.seconds
        self.came[transfer.source] = Flowed(known.size_bytes + size_bytes, known.seconds + seconds)
        transfer.told = flowed


class Links:
    """bytes_per_s: of every host, in each direction; slow: of those that have less. latency_s: of every transfer,
    before its first byte."""

    def __init__(
        self, events: Events, *, bytes_per_s: float, latency_s: float = 0.0, slow: Mapping[StoreId, float] | None = None
    ) -> None:
        self._slow: dict[str, float] = {str(host): rate for host, rate in (slow or {}).items()}
        for rate in (bytes_per_s, *self._slow.values()):
            if not rate > 0.0:
                raise ValueError(f"a link carries more than {rate} bytes per second")
        self.carried_bytes = 0
        self._events = events
        self._bytes_per_s, self._latency_s = bytes_per_s, latency_s
        self._links: dict[str, _Link] = {}

    def send(self, source: str, target: str, size_bytes: int, done: Act) -> None:
        """Calls ``done`` when the last byte is there; at once within a host."""
        if source == target or size_bytes == 0:
            done()
            return
        self.carried_bytes += size_bytes
        transfer = Transfer(source, target, size_bytes, float(size_bytes), done, self._events.now)
        self._events.after(self._latency_s, partial(self._begin, transfer))

    def came(self, target: str) -> dict[str, Flowed]:
        """What came to this host since this was last asked, by the host it came from."""
        link = self._links.get(target)
        if link is None:
            return {}
        for transfer in link.receives.values():
            link.come(transfer, self._events.now)
        came, link.came = link.came, {}
        return came

    def _begin(self, transfer: Transfer) -> None:
        transfer.since_s = self._events.now
        self._link(transfer.source).sends[id(transfer)] = transfer
        self._link(transfer.target).receives[id(transfer)] = transfer
        self._share(transfer)

    def _end(self, transfer: Transfer) -> None:
        self._links[transfer.target].come(transfer, self._events.now)
        del self._links[transfer.source].sends[id(transfer)]
        del self._links[transfer.target].receives[id(transfer)]
        self._share(transfer)
        transfer.done()

    def _share(self, changed: Transfer) -> None:
        """Whoever shares an end with it goes at another rate from now on."""
        links, now = self._links, self._events.now
        affected = links[changed.source].sends | links[changed.target].receives
        for transfer in affected.values():
            sends, receives = links[transfer.source].sends, links[transfer.target].receives
            sharing = max(len(sends), len(receives))
            rate = self._rate(transfer, len(sends), len(receives))
            if rate == transfer.bytes_per_s and sharing == transfer.sharing:
                continue
            transfer.left_bytes = max(0.0, transfer.left_bytes - transfer.bytes_per_s * (now - transfer.since_s))
            transfer.alone_s += (now - transfer.since_s) / transfer.sharing
            transfer.since_s, transfer.bytes_per_s, transfer.sharing = now, rate, sharing
            if transfer.event is not None:
                transfer.event.cancel()
            transfer.event = self._events.after(transfer.left_bytes / rate, partial(self._end, transfer))

    def _rate(self, transfer: Transfer, sends: int, receives: int) -> float:
        if not self._slow:
            return self._bytes_per_s / max(sends, receives)
        source, target = (self._slow.get(end, self._bytes_per_s) for end in (transfer.source, transfer.target))
        return min(source / sends, target / receives)

    def _link(self, host: str) -> _Link:
        link = self._links.get(host)
        if link is None:
            link = self._links[host] = _Link()
        return link
