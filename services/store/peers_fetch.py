"""A fetch of ours: blocks that a peer has and we lack, each sealed as it arrives, in prefix order.

The catalog has granted the slots to a session of the fetch's own. Whatever goes wrong, that session ends, and
whoever waits for what has not arrived learns that it is missing, and computes.
"""

from collections.abc import Sequence

from kvstore.frames import NAMES
from kvstore.transfer import Failure, Inflow, Reason, Transfer
from kvstore.vocabulary import Fetch, SlotRef
from services.runtime.logs import fields
from services.store.peers_loop import Dealings, InflowOnLoop, log
from services.store.peers_metrics import NO_ROOM, Way
from services.store.peers_take import refuse

HUNG_S = 1.0
"""A peer that has sent nothing at all for so long hangs, or has too much to do."""


class Fetching:
    """``InflowEvents``."""

    def __init__(self, dealings: Dealings, move: Fetch, transfer: Transfer) -> None:
        self._dealings, self._move, self._transfer = dealings, move, transfer
        self._began = dealings.node.clock()
        self._first = 0  # names[:_first] were asked for with earlier calls
        self._asked = 0  # with this one
        self._arrived = 0
        self._flow: Inflow | None = None

    def begin(self) -> None:
        """Ask for as much of what is left as may be under way."""
        dealings, move = self._dealings, self._move
        room = dealings.coming.room(move.peer.store) // dealings.block_bytes
        self._asked = min(len(move.names) - self._first, NAMES, room)
        if not self._asked:
            dealings.metrics.failed(NO_ROOM)
            dealings.loop.call_soon(dealings.leave, move.session)
            return
        dealings.coming.take(move.peer.store, self._asked * dealings.block_bytes)
        chosen = slice(self._first, self._first + self._asked)
        self._flow = self._transfer.fetch(
            move.peer,
            move.names[chosen],
            [target.slot for target in move.targets[chosen]],
            deadline_s=max(0.0, move.deadline - dealings.node.clock()),
            events=InflowOnLoop(dealings.loop, self),
        )

    def arrived(self, positions: Sequence[int], checksums: Sequence[int], intact: Sequence[bool]) -> None:
        assert self._flow is not None, "blocks come after they were asked for"
        dealings = self._dealings
        good = [(at, checksum) for at, checksum, fine in zip(positions, checksums, intact, strict=True) if fine]
        sealed, answers = dealings.node.catalog.seal(
            self._move.session,
            [self._target(at) for at, _ in good],
            [checksum for _, checksum in good],
            now=dealings.node.clock(),
        )
        results = iter(sealed)
        self._flow.sealed(positions, [fine and next(results) for fine in intact])
        self._arrived += len(good)
        dealings.metrics.moved(Way.FETCHED, sum(sealed))
        if len(good) < len(positions):
            refuse(dealings, self._move.peer.store, len(positions) - len(good))
            bad = [self._target(at) for at, fine in zip(positions, intact, strict=True) if not fine]
            answers += dealings.node.catalog.discard(self._move.session, bad)
            self._flow.stop()  # what follows a block that is missing is of no use
        dealings.node.settle(answers)

    def given_up(self, positions: Sequence[int]) -> None:
        refs = [self._target(at) for at in positions]
        self._dealings.node.settle(self._dealings.node.catalog.discard(self._move.session, refs))

    def ended(self, failure: Failure | None) -> None:
        dealings, peer = self._dealings, self._move.peer.store
        dealings.coming.give(peer, self._asked * dealings.block_bytes)
        self._first += self._asked
        missing = len(self._move.names) - self._arrived
        if missing and self._arrived == self._first and failure is None and not dealings.closing:
            self.begin()
            return
        if not missing:
            dealings.metrics.took(Way.FETCHED, dealings.node.clock() - self._began)
        elif failure is not None and failure.reason is Reason.MISSING:
            dealings.metrics.not_there(missing)
            words = fields(peer=peer, because=failure.sentence, missing=missing, of=len(self._move.names))
            log.debug("a peer has less than was believed", extra=words)
        elif failure is not None and failure.reason is not Reason.CLOSED:
            dealings.failed("a fetch broke off", peer, failure, missing=missing, of=len(self._move.names))
            if not self._arrived and dealings.node.clock() - self._began > HUNG_S:
                dealings.leave_alone(peer)
        dealings.leave(self._move.session)

    def _target(self, position: int) -> SlotRef:
        return self._move.targets[self._first + position]
