"""Two ends of a transfer without any store: an arena, an adapter, and a host that notes what it is told."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from threading import Event
from typing import Any

from kvstore.arena import Arena
from kvstore.checksum import slot_checksum
from kvstore.frames import Grant
from kvstore.layout import Identity, KvLayout
from kvstore.names import BlockName
from kvstore.tcp import TcpTransfer, TlsContexts
from kvstore.transfer import (
    Failure,
    Greeting,
    Inflow,
    InflowEvents,
    Outflow,
    OutflowEvents,
    TransferRefused,
)
from kvstore.vocabulary import Peer
from tests.kvstore.builders import IDENTITY, LAYOUT

PATIENCE_S = 20.0


@dataclass
class Told:
    """Both kinds of events, as (word, values), in the order they came; ``over`` is set by the last."""

    events: "Queue[tuple[Any, ...]]" = field(default_factory=Queue)
    over: Event = field(default_factory=Event)
    failure: Failure | None = None

    def granted(self, grants: Sequence[Grant]) -> None:
        self.events.put(("granted", *grants))

    def sealed(self, positions: Sequence[int], sealed: Sequence[bool]) -> None:
        self.events.put(("sealed", *zip(positions, sealed, strict=True)))

    def arrived(self, positions: Sequence[int], checksums: Sequence[int], intact: Sequence[bool]) -> None:
        self.events.put(("arrived", *zip(positions, intact, strict=True)))

    def given_up(self, positions: Sequence[int]) -> None:
        self.events.put(("given up", *positions))

    def ended(self, failure: Failure | None) -> None:
        assert not self.over.is_set(), "a call ends once"
        self.failure = failure
        self.events.put(("ended", failure and failure.reason))
        self.over.set()

    def next(self) -> tuple[Any, ...]:
        return self.events.get(timeout=PATIENCE_S)

    def end(self) -> Failure | None:
        assert self.over.wait(PATIENCE_S), "the call did not end"
        return self.failure


@dataclass
class Called:
    """A call that a peer began."""

    peer: str
    names: tuple[BlockName, ...]
    flow: Any  # an Inflow or an Outflow, as the test knows
    told: Told
    last_is_short: bool = False
    deadline_s: float = 0.0


class Answering(Told):
    """A receiver's events that answers each arrival as a store does: what is intact is held."""

    flow: Inflow

    def arrived(self, positions: Sequence[int], checksums: Sequence[int], intact: Sequence[bool]) -> None:
        super().arrived(positions, checksums, intact)
        self.flow.sealed(positions, intact)


class NotingHost:
    """A ``Host`` that takes whatever comes and notes it in ``calls``."""

    def __init__(self, name: str, identity: Identity, layout: KvLayout) -> None:
        self.name, self.identity, self.layout = name, identity, layout
        self.calls: Queue[Called] = Queue()
        self.away: Queue[tuple[str, str]] = Queue()
        """Where what was turned away before its hello came from, and why."""
        self.incarnation = 1

    def greeting(self) -> Greeting:
        return Greeting(self.name, self.incarnation, self.identity, self.layout)

    def greeted(self, peer: Greeting) -> Greeting:
        if (sentence := self.identity.differences(peer.identity)) is not None:
            raise TransferRefused(sentence)
        return self.greeting()

    def turned_away(self, address: str, reason: str) -> None:
        self.away.put((address, reason))

    def offered(self, peer: str, names: Sequence[BlockName], *, last_is_short: bool, flow: Inflow) -> InflowEvents:
        told = Answering()
        told.flow = flow
        self.calls.put(Called(peer, tuple(names), flow, told, last_is_short=last_is_short))
        return told

    def wanted(self, peer: str, names: Sequence[BlockName], *, deadline_s: float, flow: Outflow) -> OutflowEvents:
        told = Told()
        self.calls.put(Called(peer, tuple(names), flow, told, deadline_s=deadline_s))
        return told

    def called(self) -> Called:
        return self.calls.get(timeout=PATIENCE_S)


class End:
    """One store's end."""

    def __init__(
        self,
        directory: Path,
        name: str,
        *,
        layout: KvLayout = LAYOUT,
        identity: Identity = IDENTITY,
        slots: int = 32,
        tls: TlsContexts | None = None,
        **options: Any,
    ) -> None:
        self.layout, self.slots = layout, slots
        self.arena = Arena.create(directory, f"moonpool-{name}", slots * layout.slot_bytes)
        self.host = NotingHost(name, identity, layout)
        self.transfer = TcpTransfer(self.arena.view, self.host, "127.0.0.1:0", tls=tls, **options)
        self.peer = Peer(name, self.transfer.address)

    def fill(self, slot: int) -> int:
        """A block of random bytes; its checksum."""
        start = slot * self.layout.slot_bytes
        self.arena.view[start : start + self.layout.block_bytes] = os.urandom(self.layout.block_bytes)
        return slot_checksum(self.arena.view, slot, self.layout)

    def block(self, slot: int) -> bytes:
        start = slot * self.layout.slot_bytes
        return bytes(self.arena.view[start : start + self.layout.block_bytes])

    def slot(self, slot: int) -> bytes:
        """The block and its padding."""
        return bytes(self.arena.view[slot * self.layout.slot_bytes : (slot + 1) * self.layout.slot_bytes])

    def close(self) -> None:
        self.transfer.close()
        self.arena.unlink()
        self.arena.close()


@contextmanager
def ends(directory: Path, *names: str, **options: Any) -> Iterator[list[End]]:
    with ExitStack() as stack:
        made = [End(directory, name, **options) for name in names or ("here", "there")]
        for end in made:
            stack.callback(end.close)
        yield made
