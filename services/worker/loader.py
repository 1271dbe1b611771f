"""Before a sequence runs: bring what the store has of its prefix to the device, and reserve room for its handoff.

    acquire --> leases, in parts --> lift jobs, in prefix order --> leases given back --> Batcher.loaded
        \\--> answered: confirm; for a handoff: allocate, and ask for the push

One task per admitted sequence, cancelled with it. Lifts run between the steps, in jobs of bounded size, so decodes
go on in between. Whatever the store answers belongs to the ticket already, and a job's blocks are pinned until
it ends; without a store, or without an answer, everything is computed.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from kvstore.device import DeviceBlocks
from kvstore.vocabulary import Tier
from scheduler import estimate
from scheduler.correction import Correction
from scheduler.reservation import Load
from scheduler.vocabulary import Lifted, StoreTarget
from services.worker.lent import Leases
from services.worker.metrics import WorkerMetrics
from services.worker.model import Model
from services.worker.model_thread import ModelThread
from services.worker.push import Push
from services.worker.reservation import Reservation
from services.worker.store_link import StoreLink
from services.worker.store_session import StoreAway, StoreSession
from services.worker.ticket import Ticket

LEAST_WAIT_S = 1.0
"""For the store, beyond what computing the same anew takes: so a load that comes to nothing costs twice computing and
this. It covers a prefill's last step (0.25 s at most by the estimate), what is left of a push, and a busy machine."""

HANDOFF_WAIT_S = 10.0
"""The most, for blocks of a handoff that are still being written. A prefill gives its first token when it has sealed
nearly all, so this is for a prefill worker, or a store, that hangs; one that dies is noticed at once."""

LOOKUP_WAIT_S = 3.0
"""The most, for blocks that are on their way from the SSD (2 GB/s here) or from another store."""

ANSWER_S = 0.5
"""For a store's own word, which takes it a millisecond; then the request does without, and the store has more time
(``store_session.ANSWER_S``) before it counts as gone."""

LIFT_BYTES = 32 << 20
"""Copied in one job of the model thread: about 3 ms at 10 GB/s, so that tokens are not held up for long."""


class Loader:
    """Loads for sequences; link None: there is no store. ``freed`` is called when blocks were unpinned."""

    def __init__(
        self,
        link: StoreLink | None,
        device: DeviceBlocks,
        thread: ModelThread,
        model: Model,
        metrics: WorkerMetrics,
        correction: Correction,
        *,
        block_bytes: int,
        block_tokens: int,
    ) -> None:
        self._link = link
        self._device = device
        self._thread = thread
        self._model = model
        self._metrics = metrics
        self._correction = correction
        self._block_bytes = block_bytes
        self._block_tokens = block_tokens
        self._most = max(1, LIFT_BYTES // block_bytes)
        self._jobs: set[asyncio.Future[None]] = set()
        self.freed: Callable[[], None] = lambda: None

    async def load(self, ticket: Ticket, load: Load) -> int:
        """How many blocks of ``load.missing`` lie in ``load.targets`` now; by then its handoff is reserved, too."""
        session = None if self._link is None else self._link.session
        if session is None:
            ticket.stream.confirm(len(load.missing))
            return 0
        leases = Leases(session)
        ticket.lend(leases)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ask(ticket, load, leases), name=f"ask for {ticket.key}")
            lifted = await self._lift(leases, load.targets)
        ticket.lend(None)
        if ticket.lifted is None:
            size = self._block_tokens
            ticket.lifted = Lifted(lifted[Tier.DRAM] * size, lifted[Tier.SSD] * size, lifted[Tier.PEER] * size)
        return lifted.total()

    async def lifts(self) -> None:
        """Returns when the lift jobs that are queued now are done, and whoever waited for them was told."""
        if self._jobs:
            await asyncio.wait(self._jobs)

    # Asking

    async def _ask(self, ticket: Ticket, load: Load, leases: Leases) -> None:
        """What is given up here still has its deadline in the session: a store that hangs is found out by that."""
        most_s = HANDOFF_WAIT_S if ticket.sequence.handed_over else LOOKUP_WAIT_S
        wait_s = min(most_s, self._worth_s(ticket, load))
        hangs = False
        try:
            async with asyncio.timeout(wait_s + ANSWER_S):
                if ticket.sequence.handed_over:
                    await _lease_handed_over(ticket, load, leases, wait_s)
                else:
                    await _lease(ticket, load, leases, wait_s)
        except StoreAway:
            pass
        except TimeoutError:
            hangs = True
        leases.complete()
        ticket.stream.confirm(len(load.missing) - leases.granted)
        # A request that leaves while its lift job runs is gone at once; this task is cancelled when the job has ended.
        if load.handoff and ticket.handoff is None and not ticket.left and not hangs:
            await self._reserve(ticket, load, leases.session)

    async def _reserve(self, ticket: Ticket, load: Load, session: StoreSession) -> None:
        """Once for each handoff, before its first token: slots for all of its prompt's blocks, or leases on them."""
        ticket.handoff = Reservation(session, load.handoff, last_is_short=load.handoff_short, hold=True)
        try:
            async with asyncio.timeout(ANSWER_S):
                await ticket.handoff.ask()
        except (StoreAway, TimeoutError):
            ticket.handoff.close()  # the decode worker will find nothing, and compute
            return
        target = _other(ticket.push_to, session)
        if target is not None and not ticket.left:
            ticket.push = Push(session, target, load.handoff, last_is_short=load.handoff_short)

    def _worth_s(self, ticket: Ticket, load: Load) -> float:
        """How long its blocks are worth waiting for: as long as it takes to compute them here, and a little."""
        tokens, held = len(ticket.sequence.tokens), load.reused * self._block_tokens
        return LEAST_WAIT_S + estimate.prefill_s(self._correction.known, tokens, min(held, tokens))

    # Lifting

    async def _lift(self, leases: Leases, targets: Sequence[int]) -> Counter[Tier]:
        """Copy what is leased as leases come; how many blocks are on the device, up to the first that is no good."""
        lifted: Counter[Tier] = Counter()
        while leased := await leases.next(self._most):
            blocks = targets[lifted.total() : lifted.total() + len(leased)]
            with self._job(blocks), leases.used():
                done = await self._thread.run(partial(self._model.lift, leased, blocks, leases.session.epoch))
                leases.release(len(leased))
            good = done.good
            lifted.update(lease.found for lease in leased[:good])
            self._correction.lifted(len(leased) * self._block_bytes, done.seconds)
            self._metrics.blocks_lifted(good)
            if good < len(leased):
                leases.close()  # nothing behind it is of any use
                self._metrics.lift_lost()
                break
        return lifted

    @contextmanager
    def _job(self, blocks: Sequence[int]) -> Iterator[None]:
        """Around the wait for a job that writes these blocks. Nothing may be awaited between this and being told."""
        job: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.add(job)
        self._device.pin(blocks)
        try:
            yield
        finally:
            self._device.unpin(blocks)
            self._jobs.discard(job)
            job.set_result(None)
            self.freed()


async def _lease_handed_over(ticket: Ticket, load: Load, leases: Leases, wait_s: float) -> None:
    """What does not come by a push that breaks off is asked for once more: then the store fetches it."""
    clock = asyncio.get_running_loop().time
    until_s = clock() + wait_s
    await _lease(ticket, load, leases, wait_s)
    if leases.granted < len(load.missing) and _other(ticket.source, leases.session) is not None:
        await _lease(ticket, load, leases, min(LOOKUP_WAIT_S, max(0.0, until_s - clock())))


async def _lease(ticket: Ticket, load: Load, leases: Leases, wait_s: float) -> None:
    """What there is of ``load.missing``, from the first name on that is not leased yet. Raises StoreAway."""
    names, session = load.missing[leases.granted :], leases.session
    fetchable = max(0, load.fetchable - leases.granted)
    if names:
        await session.acquire(
            names,
            deadline_s=wait_s,
            handoff=ticket.sequence.handed_over,
            source=_other(ticket.source, session) if fetchable else None,
            fetchable=fetchable,
            leased=leases.add,
        )


def _other(target: StoreTarget | None, session: StoreSession) -> StoreTarget | None:
    """A store that is not the own one."""
    return None if target is None or target.store == session.store else target
