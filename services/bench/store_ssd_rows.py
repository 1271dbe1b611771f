"""Rows of the SSD tier through the very path of a store: catalog, moves, threads, file.

    ssd_write      blocks of 1 MiB from sealed to written behind. limit: plain pwrite of as many
    ssd_read       the same blocks after a restart, from asked for to leased. limit: plain pread
    restart_scan   the headers of the full file. limit: plain pread of the same pages

Plain requests are O_DIRECT, on the same disk, from and to the same slots of the arena, from as many threads as the tier
has, in a file of their own that is filled just so. (Memory counts: pages that don't lie in a row split requests.)
"""

import asyncio
import mmap
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

from kvstore.arena import Arena
from kvstore.checksum import slot_checksum
from kvstore.layout import PAGE_BYTES, KvLayout
from kvstore.names import BlockName
from kvstore.ssd import SsdError
from kvstore.ssd_format import FIRST_SLOT
from kvstore.ssd_scan import THREADS
from kvstore.vocabulary import Lease, SessionId, Write
from services.bench.rows import Row
from services.bench.store_session import identity_of
from services.store.node import StoreNode
from services.store.ssd_moves import READERS, WRITERS
from services.store.ssd_tier import SsdOptions, SsdState
from services.wire.pb.store_pb2 import FromStore
from services.wire.store_codec import leases_from_wire

BLOCK_BYTES = 1 << 20
LAYOUT = KvLayout(64, (BLOCK_BYTES,), "bytes")
STRIDE = PAGE_BYTES + BLOCK_BYTES
PARTS = 8
WARM = 2
"""The file is filled in so many parts; the first of them, which see memory that was never touched, don't count."""

SCANS = 5
PATIENCE_S = 120.0

Pass = Callable[[int], object]


async def ssd_rows(directory: Path, arena_dir: Path, *, size_bytes: int) -> list[Row]:
    """In files of ``directory`` that together take twice ``size_bytes``. Raises SsdError, ArenaError."""
    blocks = max(1, (size_bytes - FIRST_SLOT) // STRIDE // PARTS)
    options = SsdOptions(directory / "bench.kv", FIRST_SLOT + PARTS * blocks * STRIDE)
    plain = _Plain(directory / "plain", PARTS * blocks)
    chance = Random(2)
    parts = [[BlockName(chance.randbytes(16)) for _ in range(blocks)] for _ in range(PARTS)]
    try:
        written, pwritten = await _write(arena_dir, options, parts, plain)
        scans, pages = await _scan(arena_dir, options, parts)
        read, pread = await _read(arena_dir, options, parts, plain)
    finally:
        plain.close()
    rate = blocks * BLOCK_BYTES / 1e9
    return [
        Row.rate("ssd_write", rate / written, "GB/s", rate / pwritten),
        Row.rate("ssd_read", rate / read, "GB/s", rate / pread),
        Row.duration("restart_scan", scans, "s", pages),
    ]


async def _write(
    arena_dir: Path, options: SsdOptions, parts: list[list[BlockName]], plain: "_Plain"
) -> tuple[float, float]:
    """Seconds for a part: the tier's, and plain ones."""
    ours, plainly = [], []
    async with _node(arena_dir, options, 2 * len(parts[0])) as (node, worker):
        for number, names in enumerate(parts):
            grants = node.catalog.allocate(worker.id, names, last_is_short=False, hold=False, now=node.clock())
            writes = [grant for grant in grants if isinstance(grant, Write)]
            assert len(writes) == len(names), "there is room for two parts"
            checksums = await asyncio.to_thread(_filled, node.arena, writes, names)
            slots = [write.slot for write in writes]
            plainly.append(await asyncio.to_thread(plain.write, number * len(names), node.arena, slots))
            started = time.perf_counter()
            _, answers = node.catalog.seal(worker.id, writes, checksums, now=node.clock())
            node.settle(answers)
            assert node.ssd is not None
            assert await node.ssd.written_behind(PATIENCE_S), "the disk keeps up"
            ours.append(time.perf_counter() - started)
    return median(ours[WARM:]), median(plainly[WARM:])


async def _read(
    arena_dir: Path, options: SsdOptions, parts: list[list[BlockName]], plain: "_Plain"
) -> tuple[float, float]:
    ours, plainly = [], []
    async with _node(arena_dir, options, 2 * len(parts[0])) as (node, worker):
        for number, names in enumerate(parts):
            started = time.perf_counter()
            leases = await _leased(node, worker, names)
            ours.append(time.perf_counter() - started)
            assert len(leases) == len(names), "every block that was written is read again"
            slots = [lease.slot for lease in leases]  # the same bytes come again, from the other file
            plainly.append(await asyncio.to_thread(plain.read, number * len(names), node.arena, slots))
            node.catalog.release(worker.id, leases)
            node.settle()
    return median(ours[WARM:]), median(plainly[WARM:])


async def _scan(arena_dir: Path, options: SsdOptions, parts: list[list[BlockName]]) -> tuple[float, float]:
    """Seconds for all headers of the full file."""
    ours, plainly = [], []
    for _ in range(SCANS):
        options.path.with_suffix(".index").unlink(missing_ok=True)
        plainly.append(await asyncio.to_thread(_pages_read, options.path, len(parts) * len(parts[0])))
        async with _node(arena_dir, options, 1) as (node, _):
            assert node.ssd is not None
            assert node.ssd.scan is not None
            assert len(node.ssd.scan.entries) == len(parts) * len(parts[0]), "the file is full"
            ours.append(node.ssd.scan.seconds)
    return median(ours), median(plainly)


@dataclass(frozen=True, slots=True)
class _Worker:
    """Of a store without a socket. told: what the store has to say to it."""

    id: SessionId
    told: asyncio.Queue[FromStore]


@asynccontextmanager
async def _node(arena_dir: Path, options: SsdOptions, slots: int) -> AsyncIterator[tuple[StoreNode, _Worker]]:
    """A store in this process, without a socket: what is measured is its SSD tier."""
    arena = Arena.create(arena_dir, f"moonpool-bench-{os.getpid()}", slots * LAYOUT.slot_bytes)
    node = StoreNode(arena, name="bench", incarnation=1, ssd=options)
    running = asyncio.create_task(node.run(), name="bench store")
    try:
        await node.adopt(identity_of(LAYOUT), LAYOUT)
        assert node.ssd is not None
        await node.ssd.opened(PATIENCE_S)
        if node.ssd.state is not SsdState.ON:
            raise SsdError(f"the SSD tier can't be measured: {node.ssd.reason}")
        told: asyncio.Queue[FromStore] = asyncio.Queue()
        session_file = options.path.with_suffix(".session")
        session = node.hello("bench", 1, identity_of(LAYOUT), session_file, told.put_nowait)
        yield node, _Worker(session.id, told)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        node.close()


async def _leased(node: StoreNode, worker: _Worker, names: list[BlockName]) -> list[Lease]:
    """What an acquire is answered, in all its parts."""
    now = node.clock()
    node.settle(node.catalog.acquire(worker.id, 1, names, deadline=now + PATIENCE_S, now=now))
    leases: list[Lease] = []
    done = False
    while not done:
        message = await worker.told.get()
        leases += leases_from_wire(message.acquired)
        done = message.acquired.done
    return leases


def _filled(arena: Arena, writes: Iterable[Write], names: Iterable[BlockName]) -> list[int]:
    """Checksums of blocks that differ from each other."""
    checksums = []
    for write, name in zip(writes, names, strict=True):
        arena.view[write.slot * LAYOUT.slot_bytes :][: len(name)] = name
        checksums.append(slot_checksum(arena.view, write.slot, LAYOUT))
    return checksums


class _Plain:
    """A file beside the store's, written and read with nothing but the system calls; removed by ``close``."""

    def __init__(self, path: Path, blocks: int) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_DIRECT | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(self._descriptor, 0, blocks * STRIDE)

    def write(self, first: int, arena: Arena, slots: Sequence[int]) -> float:
        """Seconds for these slots of the arena, from the file's block ``first`` on."""

        def one(number: int) -> object:
            with arena.view[slots[number] * BLOCK_BYTES :][:BLOCK_BYTES] as block:
                return os.pwritev(self._descriptor, [block], (first + number) * STRIDE)

        return _all(one, len(slots), WRITERS)

    def read(self, first: int, arena: Arena, slots: Sequence[int]) -> float:
        def one(number: int) -> object:
            with arena.view[slots[number] * BLOCK_BYTES :][:BLOCK_BYTES] as block:
                return os.preadv(self._descriptor, [block], (first + number) * STRIDE)

        return _all(one, len(slots), READERS)

    def close(self) -> None:
        os.close(self._descriptor)
        self._path.unlink()


def _pages_read(path: Path, slots: int) -> float:
    """Seconds for the first page of every slot, with nothing but the system calls."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    pages = memoryview(mmap.mmap(-1, slots * PAGE_BYTES))

    def read(slot: int) -> object:
        return os.preadv(descriptor, [pages[slot * PAGE_BYTES :][:PAGE_BYTES]], FIRST_SLOT + slot * STRIDE)

    try:
        return _all(read, slots, THREADS)
    finally:
        os.close(descriptor)


def _all(one: Pass, count: int, threads: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        for _ in pool.map(one, range(count)):
            pass
        return time.perf_counter() - started
