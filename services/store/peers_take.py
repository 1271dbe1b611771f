"""A peer's push, on the side that takes it: an errand that writes what comes, and keeps it until it is released.

Blocks that are held already, and those that arrive, stay leased to the hand-over until the peer releases it or its
connection ends. What is not intact is discarded, so whoever waits for it learns at once that it is missing.
"""

from collections.abc import Sequence

from kvstore.frames import Grant
from kvstore.names import BlockName
from kvstore.transfer import Failure, Inflow
from kvstore.vocabulary import Allocation, Held, Refused, SlotRef, Write, Writing
from services.store.peers_loop import Dealings
from services.store.peers_metrics import CHECKSUM, NO_ROOM, Way


class Taking:
    """``InflowEvents``. ``begin`` comes first."""

    def __init__(
        self, dealings: Dealings, peer: str, names: Sequence[BlockName], *, last_is_short: bool, flow: Inflow
    ) -> None:
        self._dealings, self._peer = dealings, peer
        self._names, self._last_is_short, self._flow = names, last_is_short, flow
        self._coming: dict[int, SlotRef] = {}  # reserved, and neither arrived nor given up

    def begin(self) -> None:
        dealings = self._dealings
        self._began = dealings.node.clock()
        self._session = dealings.join(f"push from {self._peer}")
        allocations = dealings.node.catalog.allocate(
            self._session, self._names, last_is_short=self._last_is_short, hold=True, now=self._began
        )
        allocations = self._within_allowance(allocations)
        self._coming = {at: given.ref for at, given in enumerate(allocations) if isinstance(given, Write)}
        dealings.coming.take(self._peer, len(self._coming) * dealings.block_bytes)
        refused = sum(isinstance(given, Refused) for given in allocations)
        if refused:
            dealings.metrics.failed(NO_ROOM)
            dealings.no_room.say(peer=self._peer, refused=refused, of=len(allocations))
        slots = [self._coming[at].slot if at in self._coming else None for at in range(len(allocations))]
        self._flow.grant(list(map(_grant, allocations)), slots)
        dealings.node.settle()

    def arrived(self, positions: Sequence[int], checksums: Sequence[int], intact: Sequence[bool]) -> None:
        dealings = self._dealings
        catalog = dealings.node.catalog
        refs = self._settled(positions)
        good = [(ref, checksum) for ref, checksum, fine in zip(refs, checksums, intact, strict=True) if fine]
        sealed, answers = catalog.seal(
            self._session, [ref for ref, _ in good], [checksum for _, checksum in good], now=dealings.node.clock()
        )
        if len(good) < len(refs):
            answers += catalog.discard(self._session, [ref for ref, fine in zip(refs, intact, strict=True) if not fine])
            refuse(dealings, self._peer, len(refs) - len(good))
        results = iter(sealed)
        self._flow.sealed(positions, [fine and next(results) for fine in intact])
        dealings.metrics.moved(Way.TAKEN, sum(sealed))
        if not self._coming:
            dealings.metrics.took(Way.TAKEN, dealings.node.clock() - self._began)
        dealings.node.settle(answers)

    def given_up(self, positions: Sequence[int]) -> None:
        answers = self._dealings.node.catalog.discard(self._session, self._settled(positions))
        self._dealings.node.settle(answers)

    def ended(self, failure: Failure | None) -> None:
        lost = len(self._coming)
        self._settled(list(self._coming))
        if failure is not None and lost:
            self._dealings.failed("a push broke off", self._peer, failure, missing=lost)
        self._dealings.leave(self._session)

    def _within_allowance(self, allocations: list[Allocation]) -> list[Allocation]:
        """What comes beyond it is given back, and refused."""
        room = self._dealings.coming.room(self._peer) // self._dealings.block_bytes
        writes = [at for at, given in enumerate(allocations) if isinstance(given, Write)]
        beyond = set(writes[room:])
        if beyond:
            refs = [given.ref for at, given in enumerate(allocations) if at in beyond and isinstance(given, Write)]
            self._dealings.node.settle(self._dealings.node.catalog.discard(self._session, refs))
        return [Refused() if at in beyond else given for at, given in enumerate(allocations)]

    def _settled(self, positions: Sequence[int]) -> list[SlotRef]:
        """These are no longer under way."""
        refs = [self._coming.pop(at) for at in positions]
        self._dealings.coming.give(self._peer, len(refs) * self._dealings.block_bytes)
        return refs


def refuse(dealings: Dealings, peer: str, blocks: int) -> None:
    """Blocks came that are not what their checksum says."""
    dealings.metrics.refused(blocks)
    dealings.metrics.failed(CHECKSUM)
    dealings.corrupted.say(peer=peer, blocks=blocks)


def _grant(allocation: Allocation) -> Grant:
    match allocation:
        case Write():
            return Grant.RESERVED
        case Held():
            return Grant.HELD
        case Writing():
            return Grant.ON_ITS_WAY
        case Refused():
            return Grant.REFUSED
