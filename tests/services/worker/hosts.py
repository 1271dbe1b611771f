"""Two hosts in one process: a store and a worker each, so that every block handed over crosses a socket."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.port import Engine
from kvstore.names import block_names
from scheduler.vocabulary import StoreId, StoreTarget
from services.store.peers import StorePeers
from tests.services.meddler import Meddler, meddler
from tests.services.rig import Client, Rig, Store, Story, WorkerRun, hand_over, rig, root, toy
from tests.services.worker.oracle import Asked

SLOT_BYTES = toy().layout.slot_bytes


@dataclass
class Host:
    """line: what others reach its store through."""

    store: Store
    run: WorkerRun
    client: Client
    line: Meddler
    dram: int
    ssd: int

    @property
    def target(self) -> StoreTarget:
        return StoreTarget(StoreId(self.store.node.name), self.line.address)

    async def restart(self, it: Rig) -> None:
        """The store stops, and another comes in its place, with what is on its SSD."""
        if not self.store.task.done():
            await self.store.stop()
        self.store = await it.store(self.store.node.name, dram=self.dram, ssd=self.ssd)
        self.line.target = self.store.target.address

    async def connected(self, it: Rig) -> None:
        link = self.run.worker.link
        assert link is not None
        await it.until("the session is back", lambda: link.session is not None)

    def count(self, metric: str, **labels: str) -> float:
        """Of this store's transfers."""
        peers = self.store.node.peers
        assert isinstance(peers, StorePeers)
        value = peers.metrics.registry.get_sample_value(f"moonpool_store_transfer_{metric}_total", labels)
        assert value is not None, f"there is no metric {metric} {labels}"
        return value

    def moved(self, way: str) -> float:
        """Blocks that went whole."""
        return self.count("blocks", way=way)


@dataclass
class Hosts:
    """Prefill on ``near``, decode on ``far``."""

    it: Rig
    near: Host
    far: Host

    async def pushed(self, asked: Asked, *, far_tokens: int = 0) -> Story:
        """As the gateway does it: p's store pushes to d's, and d fetches what did not come.

        far_tokens: how many of the prompt d's store is believed to hold, so that p's fetches them from it.
        """
        return await self._handed_over(asked, push_to=self.far.target, far_tokens=far_tokens)

    async def fetched(self, asked: Asked) -> Story:
        """Handed over without a push: d fetches."""
        return await self._handed_over(asked, push_to=None)

    async def _handed_over(self, asked: Asked, push_to: StoreTarget | None, far_tokens: int = 0) -> Story:
        return await hand_over(
            self.near.client,
            self.far.client,
            asked.prompt,
            max_tokens=asked.max_tokens,
            sampling=asked.sampling,
            push_to=push_to,
            prefill_source=self.far.target if far_tokens else None,
            prefill_source_tokens=far_tokens,
            decode_source=self.near.target,
        )

    async def cached_near(self, asked: Asked) -> None:
        """Its whole blocks are in the near store afterwards."""
        await self.near.client.decode(asked.prompt, max_tokens=1)
        await self._held(self.near, asked.prompt)

    async def held_anew_far(self, asked: Asked) -> None:
        """The far store has its whole blocks, and the far worker has published them itself."""
        await self.far.client.decode(asked.prompt, max_tokens=1)
        await self.held_far(asked.prompt)

    async def held_far(self, tokens: Sequence[int]) -> None:
        """Their whole blocks are in the far store."""
        await self._held(self.far, tokens)

    async def _held(self, host: Host, tokens: Sequence[int]) -> None:
        names = set(block_names(root(), tokens, host.run.worker.identity.block_tokens))
        await self.it.until("its blocks are published", lambda: names <= set(host.store.node.catalog.held_names()))

    async def looked_up(self, asked: Asked) -> Story:
        """Inline at d, which is told that the near store may have a longer prefix."""
        return await self.far.client.decode(
            asked.prompt, max_tokens=asked.max_tokens, sampling=asked.sampling, source=self.near.target
        )


@asynccontextmanager
async def two_hosts(
    directory: Path,
    *,
    dram: int = 2000 * SLOT_BYTES,
    ssd: int = 0,
    engines: Sequence[Engine] | None = None,
) -> AsyncIterator[Hosts]:
    """engines: of the workers; unset: toys. Slots are not verified when they are lifted: stores must have done that."""
    async with rig(directory) as it:
        stores = [await it.store(name, dram=dram, ssd=ssd) for name in ("store-0", "store-1")]
        runs = [
            await it.worker(name, store=store, engine=engine, warm_within_s=120.0, verify_lifts=False)
            for name, store, engine in zip(
                ("prefill-0", "decode-0"), ("store-0", "store-1"), engines or (toy(), toy()), strict=True
            )
        ]
        async with meddler(stores[0].target.address) as near, meddler(stores[1].target.address) as far:
            hosts = [
                Host(store, run, await it.client(run), line, dram, ssd)
                for store, run, line in zip(stores, runs, (near, far), strict=True)
            ]
            yield Hosts(it, *hosts)
            await it.comes_to_rest()
            for run in reversed(it.runs):
                await run.stop()


def block_bytes(chance: random.Random, asked: Asked) -> int:
    """A place among the bytes of its blocks on their way, or a little before or behind."""
    layout = toy().layout
    return chance.randrange(200, 400 + len(asked.prompt) // layout.block_tokens * layout.block_bytes)
