"""Drive the batcher: admit, run, apply, deliver; one step at a time, for as long as there is work.

    call --enter--> ticket --add--> batcher --admit--> a load task: leases, [model thread: lift], reservations
                                       |<------------- loaded
                    wake --> next() -> [model thread: run, lower] -> seal -> applied() -> streams

Lifts that are queued by the time a step ends are waited for: what they bring runs in the very next one. A
handoff's reservation stays with its ticket. Between two steps this takes a fraction of a millisecond.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from scheduler.batching import Batcher
from scheduler.progress import Progress
from scheduler.reservation import Load
from scheduler.sequence import Running
from scheduler.vocabulary import RequestId, StoreTarget
from services.worker.loader import Loader
from services.worker.metrics import WorkerMetrics
from services.worker.publisher import Publisher
from services.worker.stepper import Stepper
from services.worker.stream import StreamBroken, StreamCut
from services.worker.ticket import Ticket


class Full(Exception):
    """No room for one more request now; the message is a sentence."""


class NeverFits(Exception):
    """This request can't be run here, now or later; the message is a sentence."""


class Ending(Exception):
    """This worker takes nothing new."""


class Loop:
    """Owns the tickets. max_tickets: requests in the batcher and handoffs that wait to be taken, together."""

    def __init__(
        self,
        batcher: Batcher,
        stepper: Stepper,
        loader: Loader,
        publisher: Publisher,
        metrics: WorkerMetrics,
        *,
        max_tickets: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._batcher = batcher
        self._stepper = stepper
        self._loader = loader
        self._publisher = publisher
        self._metrics = metrics
        self._max_tickets = max_tickets
        self._clock = clock
        self._tickets: dict[RequestId, Ticket] = {}
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.draining = False

    def wake(self) -> None:
        """Something has changed that may let a sequence run."""
        self._wake.set()
        self._changed.set()

    @property
    def requests(self) -> Sequence[RequestId]:
        """Whose calls are open, by the cluster's ids."""
        return [ticket.request for ticket in self._tickets.values()]

    @contextmanager
    def enter(
        self,
        request: RequestId,
        sequence: Running,
        *,
        push_to: StoreTarget | None = None,
        source: StoreTarget | None = None,
    ) -> Iterator[Ticket]:
        """A request for as long as its call lasts; leaving frees all it has. Raises Full, NeverFits, Ending."""
        if self.draining:
            raise Ending("this worker is ending")
        if len(self._tickets) >= self._max_tickets:
            raise Full(f"this worker is full ({len(self._tickets)} requests under way)")
        was_full = self._batcher.full
        refusal = self._batcher.add(sequence, now=self._clock())
        if refusal is not None:
            raise Full(refusal) if was_full else NeverFits(refusal)
        ticket = Ticket(request, sequence, push_to, source)
        if not sequence.handed_over:
            ticket.begun.set()
        self._tickets[ticket.key] = ticket
        self._empty.clear()
        self.wake()
        try:
            yield ticket
        finally:
            self._leave(ticket)

    def begin(self, ticket: Ticket, token: int) -> None:
        """What was handed over goes on from this token, as soon as its blocks are there."""
        self._batcher.began(ticket.key, token, now=self._clock())
        ticket.begun.set()

    async def drain(self) -> None:
        """Take nothing new; returns when the last call has ended."""
        self.draining = True
        await self._empty.wait()

    async def run(self) -> None:
        """Until cancelled, or until the engine fails; then every stream is told."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._admit_at_once(tasks), name="admission")
                while True:
                    self._wake.clear()
                    self._admit(tasks)
                    await self._loader.lifts()
                    batch = self._batcher.next(now=self._clock())
                    if batch is None:
                        await self._wake.wait()
                    else:
                        by_key = {piece.request: self._tickets[piece.request] for piece in batch.slices}
                        self._deliver(await self._stepper.run(batch, by_key))
        except asyncio.CancelledError:
            self._fail(StreamCut("this worker is ending"))
            raise
        except BaseException:
            self._fail(StreamBroken("this worker's engine has failed"))
            raise

    def _fail(self, error: StreamBroken) -> None:
        self.draining = True
        for ticket in self._tickets.values():
            ticket.stream.fail(error)

    def _deliver(self, progress: Sequence[Progress]) -> None:
        for each in progress:
            ticket = self._tickets.get(each.request)
            if ticket is not None:
                ticket.stream.put(each)
                self._metrics.progressed(each, ticket.sequence)

    def _leave(self, ticket: Ticket) -> None:
        del self._tickets[ticket.key]
        self._batcher.cancel(ticket.key)
        ticket.leave()
        if not self._tickets:
            self._empty.set()
        self.wake()

    # Loading

    async def _admit_at_once(self, tasks: asyncio.TaskGroup) -> None:
        """While a step runs, too: what the store has to say is known by the time the step is over."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._admit(tasks)

    def _admit(self, tasks: asyncio.TaskGroup) -> None:
        for load in self._batcher.admit(now=self._clock()):
            ticket = self._tickets[load.request]
            ticket.load = tasks.create_task(self._load(ticket, load), name=f"load {ticket.key}")

    async def _load(self, ticket: Ticket, load: Load) -> None:
        blocks = await self._loader.load(ticket, load)
        await ticket.begun.wait()
        self._batcher.loaded(ticket.key, blocks)
        self.wake()
        if ticket.sequence.handed_over:
            self._metrics.handed_over(len(load.missing) - blocks)
        if ticket.handoff is not None:
            await self._publisher.copy(self._publisher.claim_held(ticket.handoff))
