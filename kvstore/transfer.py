"""Moving blocks between this store's arena and another store's: the port.

The store decides what is sent, and into which slots what comes is put; an adapter moves the bytes. Whoever
begins a call and whoever is called use the same two ends of it: *outflow* where blocks leave, *inflow* where they come.

    push:   transfer.push() -> Outflow         host.offered(Inflow)
    fetch:  transfer.fetch() -> Inflow         host.wanted(Outflow)

Methods never wait and may be called from any thread. Events come from the adapter's own threads, one after the
other for each call; ``ended`` is the last, and from then on the adapter touches none of the call's slots. Until then
those slots must stay what they were granted or leased as. Nothing here knows sockets, threads or the catalog.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from kvstore.frames import Grant
from kvstore.layout import Identity, KvLayout
from kvstore.names import BlockName
from kvstore.vocabulary import Peer


class Reason(StrEnum):
    """Why a call did not get to its end."""

    AWAY = "away"
    """Nobody answers at the peer's address."""
    REFUSED = "refused"
    """The peer said no, in a sentence."""
    MISSING = "missing"
    """The peer has not got all of it: evicted since it was reported, or not sealed yet. No fault of anything."""
    BROKEN = "broken"
    """The connection ended in the middle."""
    STALLED = "stalled"
    """Nothing came or went for too long."""
    FRAME = "frame"
    """The peer sent what no correct store sends."""
    DEADLINE = "deadline"
    """The caller's time was up."""
    CLOSED = "closed"
    """This store is ending."""


@dataclass(frozen=True, slots=True)
class Failure:
    """sentence: for the log."""

    reason: Reason
    sentence: str


class TransferRefused(Exception):
    """This store will not exchange blocks with that one; the message is a sentence that it is told."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who a store is, and whose blocks it can exchange."""

    store: str
    incarnation: int
    identity: Identity
    layout: KvLayout


@dataclass(frozen=True, slots=True)
class TransferCounts:
    """Since the start, bytes of blocks; ``connections`` is as of now."""

    bytes_sent: int
    bytes_received: int
    connections: int


@dataclass(frozen=True, slots=True)
class Came:
    """Bytes of blocks that came from one store, and the seconds in which they flowed, as if nothing else did."""

    source: str
    size_bytes: int
    seconds: float


class Outflow(Protocol):
    """The end of a call where blocks leave. A block is called by its position among the call's names."""

    def send(self, positions: Sequence[int], slots: Sequence[int], layers: range) -> None:
        """Send these layers of the blocks in these slots; only of what was granted, or is wanted."""

    def done(self, positions: Sequence[int], checksums: Sequence[int]) -> None:
        """Every layer of these has been given to ``send``."""

    def give_up(self, positions: Sequence[int]) -> None:
        """These will not be sent."""

    def end(self, reason: str = "") -> None:
        """No more is sent, not even what ``send`` was given before and is still here.

        Of a push: what the peer holds for it is released. Of a fetch: reason says why not all was sent.
        """


class OutflowEvents(Protocol):
    """What becomes of it."""

    def granted(self, grants: Sequence[Grant]) -> None:
        """(Of a push, once.) One per name."""

    def sealed(self, positions: Sequence[int], sealed: Sequence[bool]) -> None:
        """What was ``done`` has arrived: intact and held, or not."""

    def ended(self, failure: Failure | None) -> None:
        """None: ``end`` was called, or (of a fetch) the peer wants no more."""


class Inflow(Protocol):
    """The end of a call where blocks come."""

    def grant(self, grants: Sequence[Grant], slots: Sequence[int | None]) -> None:
        """(Of a push, once.) One per name; slots where RESERVED."""

    def sealed(self, positions: Sequence[int], sealed: Sequence[bool]) -> None:
        """The answer to ``arrived``."""

    def stop(self) -> None:
        """(Of a fetch.) What has not arrived is not wanted any more."""


class InflowEvents(Protocol):
    """What becomes of it."""

    def arrived(self, positions: Sequence[int], checksums: Sequence[int], intact: Sequence[bool]) -> None:
        """These blocks are whole; not intact: the bytes that came don't have that checksum. Answered by ``sealed``."""

    def given_up(self, positions: Sequence[int]) -> None:
        """These will not come."""

    def ended(self, failure: Failure | None) -> None:
        """What has not arrived will not come. None: the peer has no more, or has released the push."""


class Host(Protocol):
    """The store, as an adapter asks it, from its threads. These calls may wait a little; they begin no transfer."""

    def greeting(self) -> Greeting:
        """Who this store is. Raises TransferRefused while it serves no deployment."""

    def greeted(self, peer: Greeting) -> Greeting:
        """A peer says hello; the answer. Raises TransferRefused where the two may not share blocks."""

    def turned_away(self, address: str, reason: str) -> None:
        """What has connected from there has not even come to say hello: its certificate is not good, or it has none."""

    def offered(self, peer: str, names: Sequence[BlockName], *, last_is_short: bool, flow: Inflow) -> InflowEvents:
        """A push begins; ``flow.grant`` is to follow."""

    def wanted(self, peer: str, names: Sequence[BlockName], *, deadline_s: float, flow: Outflow) -> OutflowEvents:
        """A fetch begins; ``flow.send`` and at last ``flow.end`` are to follow."""


class Transfer(Protocol):
    """An adapter. It listens from its making until ``close``."""

    @property
    def address(self) -> str:
        """Where peers reach it."""

    @property
    def counts(self) -> TransferCounts: ...

    def came(self) -> tuple[Came, ...]:
        """From each store since this was last asked, as far as it could be measured."""

    def push(
        self, peer: Peer, names: Sequence[BlockName], *, last_is_short: bool, deadline_s: float, events: OutflowEvents
    ) -> Outflow:
        """Offer blocks. deadline_s: for the peer's answer. If nothing can be had of the peer, ``ended`` says why."""

    def fetch(
        self, peer: Peer, names: Sequence[BlockName], slots: Sequence[int], *, deadline_s: float, events: InflowEvents
    ) -> Inflow:
        """Ask for blocks, each into its slot."""

    def close(self) -> None:
        """End every call; on return no slot is touched any more. Waits for as long as a connection takes to open."""
