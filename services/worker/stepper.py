"""Run one batch in the model thread, and see to all that is lent or owed for it.

In this order, and the order matters: seal what was written; pin what is to be copied
later; only then apply the step, after which its blocks may be anybody's.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from engine.port import OnLayer
from kvstore.vocabulary import SlotRef
from scheduler.batch import Batch, Fill
from scheduler.batching import Batcher
from scheduler.correction import Correction
from scheduler.progress import Progress
from scheduler.vocabulary import RequestId
from services.worker.claim import Claim, seal
from services.worker.metrics import WorkerMetrics
from services.worker.model import Model, StepDone
from services.worker.model_thread import ModelThread
from services.worker.publisher import Publisher
from services.worker.push import WrittenLayers
from services.worker.store_session import StoreSession
from services.worker.ticket import Ticket

Tickets = Mapping[RequestId, Ticket]


class Stepper:
    """One step at a time."""

    def __init__(
        self,
        batcher: Batcher,
        thread: ModelThread,
        model: Model,
        publisher: Publisher,
        metrics: WorkerMetrics,
        correction: Correction,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._batcher = batcher
        self._thread = thread
        self._model = model
        self._publisher = publisher
        self._metrics = metrics
        self._correction = correction
        self._clock = clock

    async def run(self, batch: Batch, tickets: Tickets) -> list[Progress]:
        """The tokens of this step. tickets: of every slice. Raises EngineFailed."""
        started_s = self._clock()
        claims = _claim(batch, tickets)
        lowerings = [claim.lowering for claim in claims]
        for piece in batch.slices:
            ticket = tickets[piece.request]
            if ticket.sequence.hand_over and piece.sampling is not None:
                ticket.stream.last_step()
        with ExitStack() as uses:
            for ticket in tickets.values():
                if ticket.handoff is not None:
                    uses.enter_context(ticket.handoff.used())
            done = await self._thread.run(partial(self._model.step, batch, lowerings, _pushed(claims, tickets)))
            # As long as the queue stood for it: waking two threads and summing blocks up is part of it.
            ended_s = self._clock()
            self._correction.ran(batch, ended_s - started_s)
            self._batcher.profile = self._correction.lately(now=ended_s)
            progress = self._done(batch, done, claims, tickets)
        self._metrics.stepped(self._clock() - started_s, tokens=batch.tokens, sampled=len(progress))
        return progress

    def _done(self, batch: Batch, done: StepDone, claims: Sequence[Claim], tickets: Tickets) -> list[Progress]:
        written = list(zip(claims, done.checksums, strict=True))
        seal(written)
        sealed = {claim.block for claim, checksum in written if checksum is not None}
        self._metrics.blocks_published(len(sealed))
        self._offer([fill for fill in batch.fills if fill.block not in sealed and not fill.short], tickets)
        for piece in batch.slices:
            handoff = tickets[piece.request].handoff
            if handoff is not None and piece.sampling is not None:  # its first token, so its last step
                self._publisher.start(self._publisher.claim_held(handoff))
        return self._batcher.applied(batch, done.tokens, now=self._clock())

    def _offer(self, fills: Sequence[Fill], tickets: Tickets) -> None:
        """To the publisher, one run of blocks per sequence."""
        by_request: dict[RequestId, list[Fill]] = {}
        for fill in fills:
            by_request.setdefault(fill.request, []).append(fill)
        for request, run in by_request.items():
            names = tickets[request].sequence.names
            place = names.index(run[0].name)
            after = names[place - 1] if place else None
            self._publisher.offer(after, [(fill.name, fill.block) for fill in run])


def _claim(batch: Batch, tickets: Tickets) -> list[Claim]:
    """What this step fills for handoffs, and the slots that were granted for it."""
    claims = []
    for fill in batch.fills:
        handoff = tickets[fill.request].handoff
        if handoff is not None and (ref := handoff.claim(fill.name)) is not None:
            claims.append(Claim(handoff, fill.name, fill.block, ref))
    return claims


def _pushed(claims: Sequence[Claim], tickets: Tickets) -> OnLayer | None:
    """Whom to tell of each layer that is written of the blocks of handoffs that are being pushed."""
    pushed = {id(ticket.handoff) for ticket in tickets.values() if ticket.push is not None}
    slots: dict[StoreSession, list[SlotRef]] = {}
    for claim in claims:
        if id(claim.reservation) in pushed:
            slots.setdefault(claim.reservation.session, []).append(claim.ref)
    return WrittenLayers(slots).lowered if slots else None
