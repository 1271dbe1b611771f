"""A peer's fetch, on the side that serves it: an errand that leases what is here, portion by portion, and sends it.

What is on the SSD is promoted for it, as for any reader. Blocks are leased from just before they are sent until the
peer has them, and only so many at a time: whoever asks for a million tokens pins a few portions of the arena.
"""

from collections.abc import Sequence
from itertools import count

from kvstore.frames import Grant
from kvstore.names import BlockName
from kvstore.transfer import Failure, Outflow
from kvstore.vocabulary import Answer, SlotRef
from services.store.peers_loop import Dealings, portions
from services.store.peers_metrics import Way

PORTION_BYTES = 32 << 20
"""What is leased with one call of the catalog, and waits for its turn as one."""


class Serving:
    """``OutflowEvents``. ``begin`` comes first."""

    def __init__(
        self, dealings: Dealings, peer: str, names: Sequence[BlockName], *, deadline_s: float, flow: Outflow
    ) -> None:
        self._dealings, self._peer, self._names, self._flow = dealings, peer, names, flow
        self._deadline_s = deadline_s
        self._asked = 0  # names[:_asked] were asked of the catalog
        self._got = 0  # names[:_got] are leased, or were
        self._leased: dict[int, SlotRef] = {}  # by position
        self._there: set[int] = set()  # of these, what has arrived
        self._taken = 0  # blocks that are counted as under way
        self._missing = self._over = False
        self._portions = count(1)

    def begin(self) -> None:
        node = self._dealings.node
        self._began = node.clock()
        self._deadline = self._began + self._deadline_s
        self._session = self._dealings.join(f"fetch by {self._peer}", self._heard)
        self._layers = range(self._dealings.layers)
        room_bytes = min(PORTION_BYTES, self._dealings.going.per_peer)
        self._portion = max(1, room_bytes // self._dealings.block_bytes)
        self._ask()

    def granted(self, grants: Sequence[Grant]) -> None:
        raise AssertionError("whoever fetches grants nothing")

    def sealed(self, positions: Sequence[int], sealed: Sequence[bool]) -> None:
        self._there.update(positions)
        self._dealings.metrics.moved(Way.SERVED, sum(sealed))
        if len(self._there) >= min(self._portion, len(self._leased)):
            self._release()
            self._ask_soon()

    def ended(self, failure: Failure | None) -> None:
        self._over = True
        self._dealings.going.leave(self)
        self._give(self._taken)
        if failure is None and self._got == len(self._names):
            self._dealings.metrics.took(Way.SERVED, self._dealings.node.clock() - self._began)
        if failure is not None:
            self._dealings.failed("a peer's fetch broke off", self._peer, failure, sent=self._got)
        self._dealings.leave(self._session)

    def _heard(self, answer: Answer) -> None:
        """Send what was leased, a few blocks at a time, so that they are verified, and held, while others come."""
        first, self._got = self._got, self._got + len(answer.leases)
        for start, end in portions(first, self._got, self._dealings.block_bytes):
            leases = answer.leases[start - first : end - first]
            self._leased.update(zip(range(start, end), [lease.ref for lease in leases], strict=True))
            self._flow.send(range(start, end), [lease.slot for lease in leases], self._layers)
            self._flow.done(range(start, end), [lease.checksum for lease in leases])
        if answer.done and self._got < self._asked:
            self._missing = True
            self._give(self._asked - self._got)
            self._asked = self._got
        self._ask_soon()

    def _ask_soon(self) -> None:
        self._dealings.loop.call_soon(self._ask)

    def _ask(self) -> None:
        """Lease the next portion if the one before is on its way and there is room for it; or be done."""
        dealings = self._dealings
        if self._over or self._got < self._asked:
            return
        if self._missing or self._asked == len(self._names):
            if not self._leased:
                self._over = True
                self._flow.end(self._shortfall() if self._missing else "")
            return
        size = dealings.block_bytes
        wanted = min(self._portion, len(self._names) - self._asked)
        if dealings.going.room(self._peer) < wanted * size and dealings.going.used:
            dealings.going.wait(self, self._ask_soon)
            return
        dealings.going.take(self._peer, wanted * size)
        self._taken += wanted
        first, self._asked = self._asked, self._asked + wanted
        node, names = dealings.node, self._names[first : self._asked]
        node.settle(
            node.catalog.acquire(self._session, next(self._portions), names, deadline=self._deadline, now=node.clock())
        )

    def _shortfall(self) -> str:
        """Why the first block that is not leased is not."""
        if self._dealings.node.catalog.is_being_written(self._names[self._got]):
            return "a worker is still writing the next block"
        return "the next block is not here, or not any more"

    def _release(self) -> None:
        """What has arrived, a portion at a time, as each release is a use of the whole prefix."""
        refs = [self._leased.pop(at) for at in sorted(self._there)]
        self._there.clear()
        self._dealings.node.catalog.release(self._session, refs)
        self._give(len(refs))
        self._dealings.node.settle()

    def _give(self, blocks: int) -> None:
        self._taken -= blocks
        self._dealings.going.give(self._peer, blocks * self._dealings.block_bytes)
