"""The network: every host has one link, full duplex, and shares each direction evenly among its transfers.

A transfer runs at the lesser of its share at the sender and its share at the receiver. What one end leaves
unused is not given to others (max-min fairness would), so a mixed load is a little slower here than it could be.
"""

from dataclasses import dataclass, field
from functools import partial

from loadtest.simulator.events import Act, Event, Events


@dataclass(slots=True, eq=False)
class Transfer:
    """On its way. left_bytes: as of ``since_s``."""

    source: str
    target: str
    left_bytes: float
    done: Act
    since_s: float
    bytes_per_s: float = 0.0
    event: Event | None = None


@dataclass(slots=True)
class _Link:
    """One host's. The keys of a dict keep the order in which transfers came."""

    sends: dict[int, Transfer] = field(default_factory=dict)
    receives: dict[int, Transfer] = field(default_factory=dict)


class Links:
    """bytes_per_s: of every host, in each direction. latency_s: of every transfer, before its first byte."""

    def __init__(self, events: Events, *, bytes_per_s: float, latency_s: float = 0.0) -> None:
        if not bytes_per_s > 0.0:
            raise ValueError(f"a link carries more than {bytes_per_s} bytes per second")
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
        transfer = Transfer(source, target, float(size_bytes), done, self._events.now)
        self._events.after(self._latency_s, partial(self._begin, transfer))

    def _begin(self, transfer: Transfer) -> None:
        transfer.since_s = self._events.now
        self._link(transfer.source).sends[id(transfer)] = transfer
        self._link(transfer.target).receives[id(transfer)] = transfer
        self._share(transfer)

    def _end(self, transfer: Transfer) -> None:
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
            rate = self._bytes_per_s / max(len(sends), len(receives))
            if rate == transfer.bytes_per_s:
                continue
            transfer.left_bytes = max(0.0, transfer.left_bytes - transfer.bytes_per_s * (now - transfer.since_s))
            transfer.since_s, transfer.bytes_per_s = now, rate
            if transfer.event is not None:
                transfer.event.cancel()
            transfer.event = self._events.after(transfer.left_bytes / rate, partial(self._end, transfer))

    def _link(self, host: str) -> _Link:
        link = self._links.get(host)
        if link is None:
            link = self._links[host] = _Link()
        return link
