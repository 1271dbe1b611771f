"""A fetch of ours: blocks that a peer has and we lack, each sealed as it arrives, in prefix order.

The catalog has granted the slots to a session of the fetch's own. Whatever goes wrong, that session ends, and
whoever waits for what has not arrived learns that it is missing, and computes.
"""

from collections.abc import Sequence

from kvstore.frames import NAMES
from kvstore.transfer import Failure, Inflow, Reason, Transfer
from kvstore.vocabulary import Fetch
from services.store.peers_loop import Dealings, InflowOnLoop
from services.store.peers_metrics import NO_ROOM, Way
from services.store.peers_take import refuse


class Fetching:
    """``InflowEvents``."""

    def __init__(self, dealings: Dealings, move: Fetch) -> None:
        self._dealings, self._move = dealings, move
        self._began = dealings.node.clock()
        self._arrived = 0
        self._taken = 0
        self._flow: Inflow | None = None

    def begin(self, transfer: Transfer) -> None:
        """Ask for as much as may be under way."""
        dealings, move = self._dealings, self._move
        size = dealings.block_bytes
        fits = min(len(move.names), NAMES, dealings.coming.room(move.peer.store) // size)
        if not fits:
            dealings.metrics.failed(NO_ROOM)
            dealings.loop.call_soon(dealings.leave, move.session)
            return
        self._taken = fits * size
        dealings.coming.take(move.peer.store, self._taken)
        self._flow = transfer.fetch(
            move.peer,
            move.names[:fits],
            [target.slot for target in move.targets[:fits]],
            deadline_s=max(0.0, move.deadline - self._began),
            events=InflowOnLoop(dealings.loop, self),
        )

    def arrived(self, positions: Sequence[int], checksums: Sequence[int], intact: Sequence[bool]) -> None:
        assert self._flow is not None, "blocks come after they were asked for"
        dealings = self._dealings
        good = [(at, checksum) for at, checksum, fine in zip(positions, checksums, intact, strict=True) if fine]
        sealed, answers = dealings.node.catalog.seal(
            self._move.session,
            [self._move.targets[at] for at, _ in good],
            [checksum for _, checksum in good],
            now=dealings.node.clock(),
        )
        results = iter(sealed)
        self._flow.sealed(positions, [fine and next(results) for fine in intact])
        self._arrived += len(good)
        dealings.metrics.moved(Way.FETCHED, sum(sealed))
        if len(good) < len(positions):
            refuse(dealings, self._move.peer.store, len(positions) - len(good))
            bad = [self._move.targets[at] for at, fine in zip(positions, intact, strict=True) if not fine]
            answers += dealings.node.catalog.discard(self._move.session, bad)
            self._flow.stop()  # what follows a block that is missing is of no use
        dealings.node.settle(answers)

    def given_up(self, positions: Sequence[int]) -> None:
        refs = [self._move.targets[at] for at in positions]
        self._dealings.node.settle(self._dealings.node.catalog.discard(self._move.session, refs))

    def ended(self, failure: Failure | None) -> None:
        dealings, peer = self._dealings, self._move.peer.store
        dealings.coming.give(peer, self._taken)
        missing = len(self._move.names) - self._arrived
        if missing and failure is not None and failure.reason is not Reason.CLOSED:
            dealings.failed("a fetch broke off", peer, failure, missing=missing, of=len(self._move.names))
        elif not missing:
            dealings.metrics.took(Way.FETCHED, dealings.node.clock() - self._began)
        dealings.leave(self._move.session)
