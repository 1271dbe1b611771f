"""What an adapter's threads tell, passed on to the event loop, in its order; and what every transfer needs there."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from kvstore.frames import Grant
from kvstore.layout import KvLayout
from kvstore.transfer import Failure, InflowEvents, OutflowEvents, Reason
from kvstore.vocabulary import Answer, SessionId
from services.runtime.repeated import Repeated, RepeatedBy
from services.store.node import StoreNode
from services.store.peers_allowance import Allowance
from services.store.peers_metrics import TransferMetrics

DONE_BYTES = 16 << 20
"""Few enough that readers need not wait long for the first of them (4 ms at 4 GB/s) and that little is lost with a peer
that dies, enough to be worth waking two event loops and a message to each reader."""

LEFT_ALONE_S = 5.0
"""How long a peer that hung is asked for nothing; then the next call tries it."""

log = logging.getLogger("services.store.peers")


class Dealings:
    """One store's dealings with others: its node, what may be under way, and sessions for errands. Loop only."""

    def __init__(self, node: StoreNode, metrics: TransferMetrics, coming: Allowance, going: Allowance) -> None:
        self.node, self.metrics = node, metrics
        self.coming, self.going = coming, going
        self.loop = asyncio.get_running_loop()
        self.closing = False
        """Nothing more begins."""
        self._errands = count(1)
        self._left_alone: dict[str, float] = {}  # peers that hung, and until when
        self.no_room = Repeated(log, "no room for a push")
        self.no_room_there = Repeated(log, "a peer has no room", level=logging.INFO)
        self.corrupted = Repeated(log, "blocks came corrupted and were refused")
        self.broken_off = RepeatedBy(log)
        self.refused_as_corrupted = Repeated(log, "a peer refused blocks as corrupted")

    @property
    def layout(self) -> KvLayout:
        assert self.node.catalog.layout is not None, "nothing moves before a deployment was adopted"
        return self.node.catalog.layout

    @property
    def block_bytes(self) -> int:
        return self.layout.block_bytes

    @property
    def layers(self) -> int:
        return self.layout.layers

    def join(self, owner: str, heard: Callable[[Answer], None] | None = None) -> SessionId:
        """A session of the store's own. heard: what the catalog answers it."""
        session = SessionId(f"{owner} #{next(self._errands)}")
        self.node.catalog.join(session, owner=owner)
        if heard is not None:
            self.node.errands[session] = heard
        return session

    def leave(self, session: SessionId) -> None:
        """End it and all it holds. Only when the adapter touches none of its slots any more."""
        self.node.errands.pop(session, None)
        self.node.settle(self.node.catalog.end(session, dead=True))

    def is_left_alone(self, peer: str) -> bool:
        """It hung a moment ago, so that asking again would cost each reader its whole deadline. Counted."""
        if self.node.clock() >= self._left_alone.get(peer, 0.0):
            return False
        self.metrics.failed(Reason.STALLED)
        return True

    def leave_alone(self, peer: str) -> None:
        self._left_alone[peer] = self.node.clock() + LEFT_ALONE_S

    def failed(self, what: str, peer: str, failure: Failure, **more: object) -> None:
        """Counted, and told in one line a minute for each peer and reason. That a peer refuses, in a sentence, is no
        reason to warn of."""
        self.metrics.failed(failure.reason)
        if failure.reason is Reason.STALLED:
            self.leave_alone(peer)
        level = logging.INFO if failure.reason is Reason.REFUSED else logging.WARNING
        values = {"peer": peer, "reason": failure.reason, "because": failure.sentence, **more}
        self.broken_off.say(what, peer, failure.reason, level=level, **values)


def portions(first: int, end: int, block_bytes: int) -> Iterator[tuple[int, int]]:
    """[first, end) in ranges of blocks that are sent, verified and held as one."""
    step = max(1, DONE_BYTES // block_bytes)
    for start in range(first, end, step):
        yield start, min(start + step, end)


@dataclass(frozen=True, slots=True)
class OutflowOnLoop:
    """``OutflowEvents`` for threads."""

    loop: asyncio.AbstractEventLoop
    events: OutflowEvents

    def granted(self, grants: Sequence[Grant]) -> None:
        self.loop.call_soon_threadsafe(self.events.granted, grants)

    def sealed(self, positions: Sequence[int], sealed: Sequence[bool]) -> None:
        self.loop.call_soon_threadsafe(self.events.sealed, positions, sealed)

    def ended(self, failure: Failure | None) -> None:
        self.loop.call_soon_threadsafe(self.events.ended, failure)


@dataclass(frozen=True, slots=True)
class InflowOnLoop:
    """``InflowEvents`` for threads."""

    loop: asyncio.AbstractEventLoop
    events: InflowEvents

    def arrived(self, positions: Sequence[int], checksums: Sequence[int], intact: Sequence[bool]) -> None:
        self.loop.call_soon_threadsafe(self.events.arrived, positions, checksums, intact)

    def given_up(self, positions: Sequence[int]) -> None:
        self.loop.call_soon_threadsafe(self.events.given_up, positions)

    def ended(self, failure: Failure | None) -> None:
        self.loop.call_soon_threadsafe(self.events.ended, failure)
