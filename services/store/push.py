"""A worker's push: blocks of one prefix on their way to another store while they are being written here.

What this worker is writing leaves layer by layer, as it says that layers are complete; everything leaves as soon as
it is sealed, whoever wrote it, since this errand acquires what the peer lacks like a reader, and holds its leases until
the peer has the blocks. Layers sent early are bytes without a promise: only a sealed block's checksum makes
them one, so if the worker gives a slot up in the middle the peer discards what came. A connection that breaks is
opened once more, and the prefix offered again; what has arrived is held there, and is not sent twice.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

from kvstore.frames import Grant
from kvstore.names import BlockName
from kvstore.transfer import Failure, Outflow, Reason, Transfer
from kvstore.vocabulary import Answer, Peer, SessionId, SlotRef
from services.runtime.logs import fields
from services.store.peers_loop import Dealings, OutflowOnLoop, log, portions
from services.store.peers_metrics import CHECKSUM, NO_ROOM, Way

OFFER_S = 1.0
"""For a peer's word on what it takes; the prefill worker waits no longer for it either."""

WRITTEN_S = 120.0
"""For the last of the blocks to be sealed here; a hand-over that takes longer is over anyway."""


class Pushing:
    """``OutflowEvents``. told: the worker's answer, once, one grant for each name."""

    def __init__(
        self,
        dealings: Dealings,
        peer: Peer,
        names: Sequence[BlockName],
        *,
        last_is_short: bool,
        writing: Sequence[SlotRef | None],
        told: Callable[[Sequence[Grant]], None],
        over: Callable[[bool], None],
        keep: bool = True,
    ) -> None:
        """writing: where the worker itself is writing each name.

        over: called when nothing is left to be done; whether it went as it was granted, and never broke off.
        keep: the blocks stay leased there until ``end``; else the push ends itself once they are there.
        """
        self._dealings, self._peer = dealings, peer
        self._names, self._last_is_short = names, last_is_short
        self._told: Callable[[Sequence[Grant]], None] | None = told
        self._on_over = over
        self._keep = keep
        self._writing = list(writing)
        self._positions = {ref: at for at, ref in enumerate(writing) if ref is not None}
        self._written = [0] * len(names)  # layers that are complete here
        self._flow: Outflow | None = None
        self._transfer: Transfer | None = None
        self._again = self._offered = self._ended = False
        # What is known of the peer; nothing, before it has answered the offer.
        self._wanted: set[int] = set()
        self._sent = [0] * len(names)  # layers that have left
        self._leases: dict[int, SlotRef] = {}
        self._next: dict[int, int] = {}  # by the catalog's call, one for each run of what is wanted
        self._ends: dict[int, int] = {}
        self._session: SessionId | None = None

    def begin(self, transfer: Transfer) -> None:
        """Offer; also again, after the connection broke."""
        if self._transfer is None:
            self._began = self._dealings.node.clock()
        self._transfer, self._offered = transfer, True
        events = OutflowOnLoop(self._dealings.loop, self)
        self._flow = transfer.push(
            self._peer, self._names, last_is_short=self._last_is_short, deadline_s=OFFER_S, events=events
        )

    def wrote(self, refs: Sequence[SlotRef], first_layer: int, layers: int) -> None:
        """The worker says that these layers are complete."""
        for ref in refs:
            at = self._positions.get(ref)
            if at is not None and first_layer <= self._written[at]:
                self._written[at] = max(self._written[at], min(first_layer + layers, self._dealings.layers))
        self._send_written()

    def end(self) -> None:
        """The hand-over is over, or the worker is gone; fine if it has been ended before."""
        self._ended = True
        if self._flow is not None:
            self._flow.end()

    # What becomes of it

    def granted(self, grants: Sequence[Grant]) -> None:
        self._offered = False
        refused = sum(grant is Grant.REFUSED for grant in grants)
        if refused and not self._again:
            self._dealings.metrics.failed(NO_ROOM)
            self._dealings.no_room_there.say(peer=self._peer.store, refused=refused, of=len(grants))
        self._answer(grants)
        self._wanted = {at for at, grant in enumerate(grants) if grant is Grant.RESERVED}
        if not self._wanted or self._ended:
            self._end_unless_kept()
            return
        self._send_written()
        self._session = self._dealings.join(f"push to {self._peer.store}", self._heard)
        node = self._dealings.node
        now = node.clock()
        for call, (first, end) in enumerate(_runs(sorted(self._wanted))):
            self._next[call], self._ends[call] = first, end
            names = self._names[first:end]
            node.settle(
                node.catalog.acquire(self._session, call, names, deadline=now + WRITTEN_S, now=now, handoff=True)
            )

    def sealed(self, positions: Sequence[int], sealed: Sequence[bool]) -> None:
        assert self._session is not None, "blocks are sent from under leases"
        self._wanted.difference_update(positions)
        self._dealings.metrics.moved(Way.PUSHED, sum(sealed))
        if not all(sealed):
            self._dealings.metrics.failed(CHECKSUM)
            bad = len(sealed) - sum(sealed)
            self._dealings.refused_as_corrupted.say(peer=self._peer.store, blocks=bad)
        if not self._wanted:
            # All at once, as each release is a use of the whole prefix. The worker's own leases last longer.
            node = self._dealings.node
            node.catalog.release(self._session, [self._leases[at] for at in sorted(self._leases)])
            node.settle()
            self._leases.clear()
            self._dealings.metrics.took(Way.PUSHED, node.clock() - self._began)
            self._end_unless_kept()

    def ended(self, failure: Failure | None) -> None:
        unfinished = self._offered or bool(self._wanted)
        missing = len(self._names if self._offered else self._wanted)
        self._leave()
        self._flow = None
        if (
            failure is not None
            and failure.reason is Reason.BROKEN
            and not self._again
            and not self._ended
            and not self._dealings.closing
        ):
            self._again = True
            log.info("a push is begun again", extra=fields(peer=self._peer.store, because=failure.sentence))
            self._wanted, self._sent = set(), [0] * len(self._names)
            assert self._transfer is not None, "it was begun once"
            self.begin(self._transfer)
            return
        if failure is not None and unfinished and failure.reason is not Reason.CLOSED:
            self._dealings.failed("a push broke off", self._peer.store, failure, missing=missing)
        self._answer([Grant.REFUSED] * len(self._names))
        self._on_over(not self._again and (failure is None or not unfinished))

    # Sending

    def _heard(self, answer: Answer) -> None:
        """These blocks are sealed here, and leased to us."""
        assert self._session is not None, "answers are for a session"
        first = self._next[answer.call]
        self._next[answer.call] += len(answer.leases)
        runs: defaultdict[range, list[tuple[int, SlotRef, int]]] = defaultdict(list)
        for at, lease in enumerate(answer.leases, first):
            self._leases[at] = lease.ref
            sent = self._sent[at] if self._writing[at] == lease.ref else 0  # else another wrote it, elsewhere
            runs[range(sent, self._dealings.layers)].append((at, lease.ref, lease.checksum))
        for layers, blocks in runs.items():
            for start, end in portions(0, len(blocks), self._dealings.block_bytes):
                self._send_whole(blocks[start:end], layers)
        if answer.done:
            self._give_up(range(self._next[answer.call], self._ends[answer.call]))

    def _send_whole(self, blocks: Sequence[tuple[int, SlotRef, int]], layers: range) -> None:
        assert self._flow is not None, "leases are for a flow"
        positions = [at for at, _, _ in blocks]
        if layers:
            self._flow.send(positions, [ref.slot for _, ref, _ in blocks], layers)
        self._flow.done(positions, [checksum for _, _, checksum in blocks])
        for at in positions:
            self._sent[at] = self._dealings.layers

    def _send_written(self) -> None:
        """Layers that are complete and have not left; blocks that are equally far leave together."""
        runs: defaultdict[range, list[int]] = defaultdict(list)
        for at in self._positions.values():
            if at in self._wanted and self._sent[at] < self._written[at]:
                runs[range(self._sent[at], self._written[at])].append(at)
                self._sent[at] = self._written[at]
        for layers, positions in runs.items():
            assert self._flow is not None, "what is wanted is for a flow"
            slots = [ref.slot for at in positions if (ref := self._writing[at]) is not None]
            self._flow.send(positions, slots, layers)

    def _give_up(self, positions: range) -> None:
        """The first of these will not come, so what follows it is of no use to a reader."""
        lost = [at for at in positions if at in self._wanted]
        if lost and self._flow is not None:
            self._flow.give_up(lost)
            self._wanted.difference_update(lost)
            if not self._wanted:
                self._end_unless_kept()

    def _answer(self, grants: Sequence[Grant]) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(grants)

    def _end_unless_kept(self) -> None:
        if not self._keep:
            self.end()

    def _leave(self) -> None:
        self._leases.clear()
        session, self._session = self._session, None
        if session is not None:
            self._dealings.leave(session)


def _runs(positions: Sequence[int]) -> list[tuple[int, int]]:
    """Sorted positions as [first, end)."""
    starts = [at for index, at in enumerate(positions) if not index or positions[index - 1] != at - 1]
    ends = [
        at + 1 for index, at in enumerate(positions) if index + 1 == len(positions) or positions[index + 1] != at + 1
    ]
    return list(zip(starts, ends, strict=True))
