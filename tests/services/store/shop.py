"""A store node in a test's process, without a socket, whose blocks' content follows from their names."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import xxhash

from kvstore.layout import Identity, KvLayout
from kvstore.names import BlockName
from kvstore.ssd import SsdFile
from kvstore.ssd_format import FIRST_SLOT
from kvstore.vocabulary import CatalogSnapshot, DiskSnapshot, Write
from services.store.node import StoreNode, make_arena
from services.store.session import WorkerSession
from services.store.ssd_tier import REOPEN_S, OpenFile, SsdOptions, SsdState, SsdTier
from services.wire.pb.store_pb2 import FromStore
from services.wire.store_codec import leases_from_wire

LAYOUT = KvLayout(8, (3000, 2000), "bytes")
STRIDE = 4096 + LAYOUT.slot_bytes
IDENTITY = Identity("toy", "weights", "none", LAYOUT.block_tokens, LAYOUT.digest)
PATIENCE_S = 10.0


def name(number: int) -> BlockName:
    return BlockName(number.to_bytes(16, "big"))


def names(numbers: Sequence[int]) -> list[BlockName]:
    return [name(number) for number in numbers]


def content(of: BlockName) -> bytes:
    return random.Random(of).randbytes(LAYOUT.block_bytes)


@dataclass
class Shop:
    """One node, and one worker's session with it."""

    node: StoreNode
    session: WorkerSession
    told: asyncio.Queue[FromStore]
    calls: int = 0

    @property
    def ssd(self) -> SsdTier:
        assert self.node.ssd is not None
        return self.node.ssd

    @property
    def counts(self) -> CatalogSnapshot:
        return self.node.catalog.snapshot()

    @property
    def disk(self) -> DiskSnapshot:
        disk = self.counts.disk
        assert disk is not None, "there is no SSD tier"
        return disk

    def put(self, numbers: Sequence[int]) -> None:
        """Write these blocks of one prefix, and seal them."""
        catalog, now = self.node.catalog, self.node.clock()
        grants = catalog.allocate(self.session.id, names(numbers), last_is_short=False, hold=False, now=now)
        checksums = []
        for number, grant in zip(numbers, grants, strict=True):
            assert isinstance(grant, Write)
            at = grant.slot * LAYOUT.slot_bytes
            self.node.arena.view[at : at + LAYOUT.block_bytes] = content(name(number))
            checksums.append(xxhash.xxh3_64_intdigest(content(name(number))))
        writes = [grant for grant in grants if isinstance(grant, Write)]
        _, answers = catalog.seal(self.session.id, writes, checksums, now=now)
        self.node.settle(answers)

    async def served(self, numbers: Sequence[int], deadline_s: float = PATIENCE_S) -> list[int]:
        """Look these blocks of one prefix up: which are leased, each with the content that was sealed; then release."""
        self.calls += 1
        now = self.node.clock()
        asked = names(numbers)
        self.node.settle(
            self.node.catalog.acquire(self.session.id, self.calls, asked, deadline=now + deadline_s, now=now)
        )
        leases, done = [], False
        while not done:
            message = await asyncio.wait_for(self.told.get(), PATIENCE_S)
            if message.call == self.calls:
                leases += leases_from_wire(message.acquired)
                done = message.acquired.done
        for number, lease in zip(numbers, leases, strict=False):
            at = lease.slot * LAYOUT.slot_bytes
            assert self.node.arena.view[at : at + LAYOUT.block_bytes] == content(name(number)), "a wrong block"
        self.node.catalog.release(self.session.id, leases)
        self.node.settle()
        return list(numbers[: len(leases)])

    async def reaches(self, state: SsdState) -> None:
        """Wait for it."""
        async with asyncio.timeout(PATIENCE_S):
            while self.ssd.state is not state:  # noqa: ASYNC110 - what is watched has no event to wait for
                await asyncio.sleep(0.002)

    async def written_behind(self) -> None:
        assert await self.ssd.written_behind(PATIENCE_S), "not written in time"


@asynccontextmanager
async def shop(
    directory: Path,
    *,
    slots: int = 16,
    ssd_slots: int = 64,
    open_file: OpenFile | None = None,
    opened: bool = True,
    cleanly: bool = True,
    reopen_s: float = REOPEN_S,
) -> AsyncIterator[Shop]:
    """A store on ``directory``'s SSD file. opened: wait for it. cleanly: drain at the end, as on SIGTERM."""
    arena = make_arena(directory, "shop", slots * LAYOUT.slot_bytes, random.randrange(1 << 60))
    options = SsdOptions(directory / "ssd" / "shop.kv", FIRST_SLOT + ssd_slots * STRIDE)
    node = StoreNode(arena, name="shop", incarnation=1, ssd=options)
    node.ssd = SsdTier(
        node.catalog,
        arena,
        options,
        settle=node.settle,
        clock=node.clock,
        open_file=open_file,
        reopen_s=reopen_s,
    )
    assert node.ssd is not None
    running = asyncio.create_task(node.run(), name="shop")
    try:
        if opened:
            await node.adopt(IDENTITY, LAYOUT)
        told: asyncio.Queue[FromStore] = asyncio.Queue()
        yield Shop(node, node.hello("w", 1, IDENTITY, directory / "none", told.put_nowait), told)
        node.catalog.check()
        if cleanly:
            await asyncio.wait_for(node.drain(PATIENCE_S), PATIENCE_S)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        node.close()


def open_plainly(path: Path, size_bytes: int, fingerprint: bytes, layout: KvLayout) -> SsdFile:
    return SsdFile.open(path, size_bytes, fingerprint=fingerprint, layout=layout)
