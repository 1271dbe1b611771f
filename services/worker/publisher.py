"""Copy complete blocks to the store: in the background, in portions, never at a request's cost.

Blocks are pinned from the moment they are offered until they are copied or given up, so
nobody can write them meanwhile; how many may be pinned at a time is bounded, and what
comes on top is not published. Without a store nothing is pinned at all.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from kvstore.device import DeviceBlocks
from kvstore.names import BlockName
from services.worker.claim import Claim, Copying, seal
from services.worker.metrics import WorkerMetrics
from services.worker.model import Model
from services.worker.model_thread import ModelThread
from services.worker.reservation import Reservation
from services.worker.store_link import StoreLink
from services.worker.store_session import StoreAway

Held = tuple[BlockName, int]
"""A name, and the device block that holds it."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Consecutive blocks of one sequence, pinned. after: the name before the first of them."""

    after: BlockName | None
    blocks: tuple[Held, ...]


class Publisher:
    """``run`` is its task. limit: blocks pinned for it at a time. ``freed`` is called when it has unpinned some."""

    def __init__(
        self,
        link: StoreLink | None,
        device: DeviceBlocks,
        thread: ModelThread,
        model: Model,
        metrics: WorkerMetrics,
        *,
        limit: int,
    ) -> None:
        self._link = link
        self._device = device
        self._thread = thread
        self._model = model
        self._metrics = metrics
        self._limit = limit
        self._offers: list[Offer] = []
        self._offered = asyncio.Event()
        self._pinned = 0
        self.freed: Callable[[], None] = lambda: None
        self._tasks = asyncio.TaskGroup()

    def offer(self, after: BlockName | None, blocks: Sequence[Held]) -> None:
        """These blocks are complete, and pinned by somebody right now. Never waits."""
        if self._link is None or self._link.session is None:
            return
        room = max(0, self._limit - self._pinned)
        self._metrics.blocks_not_published(max(0, len(blocks) - room))
        if kept := tuple(blocks[:room]):
            self._pin([block for _, block in kept])
            self._offers.append(Offer(after, kept))
            self._offered.set()

    async def run(self) -> None:
        """Until cancelled, or until the engine fails."""
        async with self._tasks:
            while True:
                await self._offered.wait()
                self._offered.clear()
                await self._publish_offers()

    async def _publish_offers(self) -> None:
        offers, self._offers = self._offers, []
        try:
            await self._publish(offers)
        except StoreAway:
            pass  # a cache that is away is not missed
        finally:
            for offer in offers:
                self._unpin([block for _, block in offer.blocks])

    def claim_held(self, handoff: Reservation) -> Copying:
        """What the device has of this handoff and nobody has written yet; claimed and pinned at once."""
        names = handoff.names if handoff.unwritten else ()
        held = list(zip(names, self._device.match(names), strict=False))
        return self._claim((handoff, held))

    def start(self, copying: Copying) -> None:
        """Copy in a task of the publisher's own."""
        if copying.claims:
            self._tasks.create_task(self.copy(copying), name="copy to the store")

    async def copy(self, copying: Copying) -> None:
        """To the slots that were granted, and seal."""
        with copying:
            if copying.claims:
                lowerings = [claim.lowering for claim in copying.claims]
                checksums = await self._thread.run(partial(self._model.lower, lowerings))
                seal(zip(copying.claims, checksums, strict=True))
                self._metrics.blocks_published(len(checksums) - checksums.count(None))

    def _claim(self, *parts: tuple[Reservation, Sequence[Held]]) -> Copying:
        claims = [
            Claim(reservation, name, block, ref)
            for reservation, blocks in parts
            for name, block in blocks
            if (ref := reservation.claim(name)) is not None
        ]
        self._pin([claim.block for claim in claims])
        return Copying(claims, done=self._unpin)

    async def _publish(self, offers: Sequence[Offer]) -> None:
        """All that was offered, in one job of the model thread."""
        session = None if self._link is None else self._link.session
        if session is None:
            return
        with ExitStack() as reservations:
            parts = []
            for offer in offers:
                reservation = Reservation(session, [name for name, _ in offer.blocks], after=offer.after)
                reservations.callback(reservation.close)
                await reservation.ask()
                parts.append((reservation, offer.blocks))
            await self.copy(self._claim(*parts))

    def _pin(self, blocks: Sequence[int]) -> None:
        self._device.pin(blocks)
        self._pinned += len(blocks)

    def _unpin(self, blocks: Sequence[int]) -> None:
        self._device.unpin(blocks)
        self._pinned -= len(blocks)
        self.freed()
