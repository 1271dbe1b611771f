"""What a restart costs a store whose SSD file holds very many blocks: rows ``restart_*`` of ``moonpool bench store``.

    restart_headers   until the tier is on, every header searched, as after a SIGKILL. limit: plain reads of it all
    restart_index     the same with the index of a clean shutdown
    .._stall          the longest that the store's event loop stood still meanwhile
    .._bytes          what its process grew by, at most

Blocks of one page, so that a million of them fit any disk; each start is a process of its own.
"""

import asyncio
import mmap
import os
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random

from kvstore.arena import Arena
from kvstore.checksum import slot_checksum
from kvstore.layout import PAGE_BYTES, KvLayout
from kvstore.names import BlockName
from kvstore.ssd import SsdError, SsdFile
from kvstore.ssd_format import FIRST_SLOT, SlotHeader, encode_slot_header
from kvstore.ssd_scan import CHUNK_BYTES, THREADS
from services.bench.rows import Row
from services.bench.store_session import identity_of
from services.store.node import StoreNode
from services.store.ssd_tier import SsdOptions, SsdState

LAYOUT = KvLayout(64, (PAGE_BYTES,), "bytes")
STRIDE = PAGE_BYTES + LAYOUT.slot_bytes
LOOK_S = 0.001
PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a store. stall_s: the longest that its event loop did not answer. by_index: no slot was searched."""

    seconds: float
    stall_s: float
    grown_bytes: int
    blocks: int
    by_index: bool


def restart_rows(directory: Path, arena_dir: Path, blocks: int) -> list[Row]:
    """With a file of ``blocks`` in ``directory``, 8 KiB each. Raises SsdError."""
    options = SsdOptions(directory / "restart.kv", FIRST_SLOT + blocks * STRIDE)
    _fill(options, blocks)
    plain_s = _read_whole(options.path)
    headers, index = (_in_a_process(arena_dir, options) for _ in range(2))  # the first leaves an index to the second
    assert (headers.by_index, index.by_index) == (False, True)
    assert headers.blocks == index.blocks == blocks, "every block is found"
    return [
        Row.duration(f"restart_headers_{blocks}", headers.seconds, "s", plain_s),
        Row(f"restart_headers_{blocks}_stall", headers.stall_s * 1e3, "ms"),
        Row(f"restart_headers_{blocks}_bytes", headers.grown_bytes, "bytes"),
        Row(f"restart_index_{blocks}", index.seconds, "s"),
        Row(f"restart_index_{blocks}_stall", index.stall_s * 1e3, "ms"),
        Row(f"restart_index_{blocks}_bytes", index.grown_bytes, "bytes"),
    ]


def _fill(options: SsdOptions, blocks: int) -> None:
    """Every slot with a block, as a store would leave it."""
    chance = Random(4)
    fingerprint = identity_of(LAYOUT).fingerprint
    file = SsdFile.open(options.path, options.size_bytes, fingerprint=fingerprint, layout=LAYOUT)
    descriptor = os.open(options.path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    with mmap.mmap(-1, CHUNK_BYTES) as memory, memoryview(memory) as chunk:
        checksum = slot_checksum(chunk[PAGE_BYTES:STRIDE], 0, LAYOUT)
        try:
            last = BlockName(chance.randbytes(16))
            file.write(blocks - 1, last, checksum, LAYOUT.block_tokens, chunk[PAGE_BYTES:STRIDE])  # all are in use now
            for first in range(0, blocks - 1, CHUNK_BYTES // STRIDE):
                slots = range(first, min(first + CHUNK_BYTES // STRIDE, blocks - 1))
                for place, slot in enumerate(slots):
                    name = BlockName(chance.randbytes(16))
                    header = SlotHeader(
                        slot, name, LAYOUT.block_tokens, LAYOUT.block_bytes, checksum, file.epoch, slot + 2, fingerprint
                    )
                    encode_slot_header(header, chunk[place * STRIDE :][:PAGE_BYTES])
                os.pwritev(descriptor, [chunk[: len(slots) * STRIDE]], FIRST_SLOT + first * STRIDE)
        finally:
            os.close(descriptor)
            file.close()


def _read_whole(path: Path) -> float:
    """Seconds for all of its bytes, with nothing but the system calls."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    size_bytes = os.fstat(descriptor).st_size

    def read(offset: int) -> None:
        with mmap.mmap(-1, CHUNK_BYTES) as memory:
            os.preadv(descriptor, [memory], offset)

    try:
        started = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(read, range(0, size_bytes, CHUNK_BYTES)):
                pass
        return time.perf_counter() - started
    finally:
        os.close(descriptor)


def _in_a_process(arena_dir: Path, options: SsdOptions) -> Start:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_start, arena_dir, options).result()


def _start(arena_dir: Path, options: SsdOptions) -> Start:
    return asyncio.run(_started(arena_dir, options))


async def _started(arena_dir: Path, options: SsdOptions) -> Start:
    """From a worker's hello to its tier being on, and then a clean shutdown."""
    arena = Arena.create(arena_dir, f"moonpool-bench-{os.getpid()}", 16 * LAYOUT.slot_bytes)
    node = StoreNode(arena, name="bench", incarnation=1, ssd=options)
    assert node.ssd is not None
    running = asyncio.create_task(node.run(), name="bench store")
    stalls = _Stalls()
    looking = asyncio.create_task(stalls.run(), name="stalls")
    before = _resident_bytes()
    try:
        started = time.perf_counter()
        await node.adopt(identity_of(LAYOUT), LAYOUT)
        await node.ssd.opened(PATIENCE_S)
        seconds = time.perf_counter() - started
        if node.ssd.state is not SsdState.ON or node.ssd.scan is None:
            raise SsdError(f"the SSD tier can't be measured: {node.ssd.reason}")
        found = Start(
            seconds,
            stalls.longest_s,
            _most_resident_bytes() - before,
            len(node.catalog.disk_names()),
            node.ssd.scan.from_snapshot,
        )
        await node.drain(PATIENCE_S)
        return found
    finally:
        for task in (looking, running):
            task.cancel()
        await asyncio.gather(looking, running, return_exceptions=True)
        node.close()


class _Stalls:
    """How long the event loop did not come back to somebody who wants to be woken every millisecond."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def run(self) -> None:
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(LOOK_S)
            self.longest_s = max(self.longest_s, time.perf_counter() - asked - LOOK_S)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _most_resident_bytes() -> int:
    """So far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kib << 10
