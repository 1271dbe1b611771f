"""A store that is killed at any moment: what it had on its SSD is there again, and nothing wrong is ever served.

A store process of its own, under load, is SIGKILLed at random moments. What it must still have
is what it had reported to its conductor; what a block must be follows from its name.
"""

import asyncio
import multiprocessing
import os
import random
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import xxhash

from kvstore.layout import KvLayout
from kvstore.names import BlockName
from kvstore.ssd_format import FIRST_SLOT
from kvstore.vocabulary import Allocation, Lease, Write
from scheduler.vocabulary import StoreReport
from services.bench.store_session import Bench, store_session
from services.store.main import serve_store
from services.store.settings import StoreSettings
from services.wire import report_codec
from services.wire.channel import serve
from services.wire.pb import conductor_pb2, conductor_pb2_grpc
from services.worker.store_session import StoreAway
from tests.services.rig import PATIENCE_S

SEED = 20261122
KILLS = 50
LAYOUT = KvLayout(8, (7000, 5000), "bytes")
STRIDE = 4096 + LAYOUT.slot_bytes
MEMORY_SLOTS = 128
LONGEST_LIFE_S = 0.4
CHAIN = 8
SAMPLE = 96

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


def content(of: BlockName) -> bytes:
    return random.Random(of).randbytes(LAYOUT.block_bytes)


def run_store(settings: dict[str, Any]) -> None:  # Any: the fields of StoreSettings
    asyncio.run(serve_store(StoreSettings(**settings), asyncio.Event()))


@dataclass
class Conductor(conductor_pb2_grpc.ConductorServicer):
    """Believes what stores report of their SSD."""

    on_ssd: set[BlockName] = field(default_factory=set)
    found: dict[int, set[BlockName]] = field(default_factory=lambda: defaultdict(set))  # by each process, by its pid
    searched: dict[int, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    reports: list[StoreReport] = field(default_factory=list)

    async def ReportStore(self, request: conductor_pb2.StoreReport, context: Any) -> conductor_pb2.ReportAnswer:  # noqa: N802
        report = report_codec.store_report_from_wire(request)
        self.on_ssd -= set(report.ssd_lost)
        self.on_ssd |= set(report.ssd_gained)
        self.found[report.pid] |= set(report.ssd_gained)
        self.reports.append(report)
        if report.ssd is not None and report.ssd.state == "on":
            self.searched[report.pid].set()
        return conductor_pb2.ReportAnswer()


@dataclass
class Victim:
    """A store that is started again and again on one SSD file. keeps_all: the file has room for all there will be."""

    directory: Path
    ssd_slots: int
    keeps_all: bool
    processes: ForkServerContext
    chance: random.Random
    conductor: Conductor = field(default_factory=Conductor)
    sealed: list[list[BlockName]] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"unix:{self.directory / 'store.sock'}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Bench, int]]:
        """From its start to its SIGKILL, with a session. It has searched its file."""
        settings = {
            "listen": self.target,
            "conductor": f"unix:{self.directory / 'conductor.sock'}",
            "dram": MEMORY_SLOTS * LAYOUT.slot_bytes,
            "ssd": FIRST_SLOT + self.ssd_slots * STRIDE,
            "arena_dir": self.directory,
            "data_dir": self.directory,
        }
        process = self.processes.Process(target=run_store, args=(settings,), daemon=True)
        process.start()
        assert process.pid is not None
        try:
            async with store_session(self.target, self.directory, LAYOUT) as bench:
                yield bench, process.pid
        finally:
            process.kill()
            await asyncio.to_thread(process.join, 10)
            assert process.exitcode == -signal.SIGKILL, "it ended by itself"
            process.close()

    async def dies_under_load(self) -> None:
        """One life: what must be there is there; then it is written to and read from until it is killed."""
        async with self.running() as (bench, pid):
            known = sorted(self.conductor.on_ssd)
            await asyncio.wait_for(self.conductor.searched[pid].wait(), PATIENCE_S)
            assert not self.keeps_all or self.conductor.found[pid] >= set(known), "a restart lost what was on the SSD"
            for name in self.chance.sample(known, min(SAMPLE, len(known))):
                count = await served(bench, [name])
                assert count or not self.keeps_all, "it was on the SSD when the store was killed"
            for chain in self.sealed[-SAMPLE // CHAIN :]:
                await served(bench, chain)
            loop = asyncio.get_running_loop()
            loop.call_later(self.chance.uniform(0, LONGEST_LIFE_S), os.kill, pid, signal.SIGKILL)
            with suppress(StoreAway):
                while True:
                    await self._load(bench)

    async def _load(self, bench: Bench) -> None:
        chain = [BlockName(self.chance.randbytes(16)) for _ in range(CHAIN)]
        grants: list[Allocation] = []
        await bench.session.allocate(chain, last_is_short=False, hold=False, granted=grants.extend)
        writes = [grant for grant in grants if isinstance(grant, Write)]
        assert len(writes) == CHAIN
        checksums = []
        for name, write in zip(chain, writes, strict=True):
            bench.arena.view[write.slot * LAYOUT.slot_bytes :][: LAYOUT.block_bytes] = content(name)
            checksums.append(xxhash.xxh3_64_intdigest(content(name)))
        bench.session.seal(writes, checksums)
        self.sealed.append(chain)
        await served(bench, self.chance.choice(self.sealed))


async def served(bench: Bench, names: Sequence[BlockName]) -> int:
    """How many of these it serves, each with the content that was sealed; AssertionError if it is another."""
    leases: list[Lease] = []
    await bench.session.acquire(names, deadline_s=10.0, leased=leases.extend)
    for name, lease in zip(names, leases, strict=False):
        at = lease.slot * LAYOUT.slot_bytes
        assert bench.arena.view[at : at + LAYOUT.block_bytes] == content(name), "a wrong block was served"
    bench.session.release(leases)
    return len(leases)


@asynccontextmanager
async def victim(directory: Path, ssd_slots: int, seed: int, *, keeps_all: bool) -> AsyncIterator[Victim]:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["services.store.main"])
    made = Victim(directory, ssd_slots, keeps_all, processes, random.Random(seed))
    target = f"unix:{directory / 'conductor.sock'}"
    server = await serve(target, lambda it: conductor_pb2_grpc.add_ConductorServicer_to_server(made.conductor, it))
    try:
        yield made
    finally:
        await server.stop(None)


async def test_a_store_that_is_killed_fifty_times_still_has_what_it_had_and_serves_nothing_wrong(
    tmp_path: Path,
) -> None:
    async with victim(tmp_path, 20_000, SEED, keeps_all=True) as it:
        for _ in range(KILLS * 7 // 10):
            await it.dies_under_load()
        async with it.running() as (bench, _):
            everything = sorted(it.conductor.on_ssd)
            assert len(everything) > 500, "the load was no load"
            for name in everything:
                assert await served(bench, [name]) == 1
        assert not [report for report in it.conductor.reports if report.ssd_lost], "and nothing of it was torn"


async def test_a_store_that_is_killed_while_its_full_ssd_file_is_written_over_serves_nothing_wrong(
    tmp_path: Path,
) -> None:
    async with victim(tmp_path, 60, SEED + 1, keeps_all=False) as it:
        for _ in range(KILLS * 3 // 10):
            await it.dies_under_load()
        assert sum(len(report.ssd_lost) for report in it.conductor.reports) > 500, "nothing was written over"
