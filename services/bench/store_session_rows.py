"""Rows of a store process as its workers see it: over the socket, and straight in and out of its arena.

put_S, acquire_S    64 MiB a call: allocate, copy and hash, seal; acquire, copy, release.
                    limit: one memcpy of as many bytes between the same memory. One thread copies, as a worker's does
acquire_256_pN      a call for 256 names that are all there.
                    limit: as many bytes there and back between two processes that block, over a Unix socket
release_256_p50     these leases given back, and a call for no names after it, which shows that it is done
call_p50            a call for no names, beside the same limit
.._awake_pN         the same on cores that are kept from falling asleep in between
evict               slots a second through a full store, 64 a call, no bytes written
"""

import asyncio
import time
from collections.abc import Awaitable
from itertools import cycle
from pathlib import Path
from random import Random
from statistics import median

import numpy as np
from numpy.typing import NDArray

from kvstore.layout import PAGE_BYTES, KvLayout
from kvstore.names import BlockName
from kvstore.sealing import Runs, copy_sealed
from services.bench.awake import awake
from services.bench.bare_trips import BareTrips, bare_trips
from services.bench.rows import Row, Work, in_turns
from services.bench.store_session import Bench, store_process

MIB = 1 << 20
BATCH_BYTES = 64 * MIB
SIZES = (MIB, 16 * MIB)
BATCHES = 8
"""Of room in the arena; more than any cache holds."""

SMALL_SLOTS = 4096
NAMES = 256
ASK_BYTES, ANSWER_BYTES = 4114, 2833
"""Of a message with so many names, and of one with as many leases."""

CALL = 64

Bytes = NDArray[np.uint8]


async def session_rows(directory: Path, arena_dir: Path, *, rounds: int, batches: int) -> list[Row]:
    """Raises StoreProcessFailed."""
    chance = Random(1)
    rows: list[Row] = []
    for size in SIZES:
        layout = KvLayout(64, (size,), "bytes")
        async with store_process(directory, arena_dir, layout, batches * BATCH_BYTES // size) as bench:
            rows += await _copying(bench, chance, rounds, batches)
    async with store_process(directory, arena_dir, KvLayout(64, (PAGE_BYTES,), "bytes"), SMALL_SLOTS) as bench:
        rows += await _deciding(bench, chance, rounds)
    return rows


async def _copying(bench: Bench, chance: Random, rounds: int, batches: int) -> list[Row]:
    size = bench.layout.block_bytes
    count = BATCH_BYTES // size
    private = np.frombuffer(chance.randbytes(BATCH_BYTES), np.uint8).copy()
    view = bench.arena.view
    latest: list[BlockName] = []
    place = cycle(range(0, batches * count, count))  # where batches begin, in slots

    async def put() -> None:
        latest[:] = [BlockName(chance.randbytes(16)) for _ in range(count)]
        grants = await bench.granted(latest)
        slots = [grant.slot for grant in grants]
        bench.session.seal(grants, await asyncio.to_thread(_copied_in, private, view, slots, size))

    async def acquire() -> None:
        leases = await bench.leased(latest)
        await asyncio.to_thread(_copy_out, view, private, [lease.slot for lease in leases], size)
        bench.session.release(leases)

    async def memcpy_in() -> None:
        await asyncio.to_thread(_memcpy_in, private, view, next(place) * size)

    async def memcpy_out() -> None:
        await asyncio.to_thread(_memcpy_out, view, next(place) * size, private)

    # memcpy into the arena spoils what was put before; so it is read back first, and nobody looks at the bytes.
    works: dict[str, Work] = {"put": put, "acquire": acquire, "memcpy_in": memcpy_in, "memcpy_out": memcpy_out}
    seconds = await in_turns(works, rounds, warm=batches + 2)
    speed = {name: BATCH_BYTES / taken / 1e9 for name, taken in seconds.items()}
    words = f"{size // MIB}MiB"
    return [
        Row.rate(f"put_{words}", speed["put"], "GB/s", speed["memcpy_in"]),
        Row.rate(f"acquire_{words}", speed["acquire"], "GB/s", speed["memcpy_out"]),
    ]


def _copied_in(private: Bytes, view: memoryview, slots: list[int], size: int) -> list[int]:
    """Checksums of the blocks, which are copied as an engine does it."""
    return [
        copy_sealed(Runs(private[number * size :].ctypes.data, size, size, 1), view[slot * size :][:size])
        for number, slot in enumerate(slots)
    ]


def _copy_out(view: memoryview, private: Bytes, slots: list[int], size: int) -> None:
    arena = np.frombuffer(view, np.uint8)
    for number, slot in enumerate(slots):
        private[number * size :][:size] = arena[slot * size :][:size]


def _memcpy_in(private: Bytes, view: memoryview, at: int) -> None:
    np.frombuffer(view, np.uint8)[at : at + BATCH_BYTES] = private


def _memcpy_out(view: memoryview, at: int, private: Bytes) -> None:
    private[:] = np.frombuffer(view, np.uint8)[at : at + BATCH_BYTES]


async def _deciding(bench: Bench, chance: Random, rounds: int) -> list[Row]:
    chain = [BlockName(chance.randbytes(16)) for _ in range(NAMES)]
    for start in range(0, NAMES, CALL):
        grants = await bench.granted(chain[start : start + CALL])
        bench.session.seal(grants, [0] * len(grants))
    with bare_trips(ASK_BYTES, ANSWER_BYTES) as bare:
        rows = await _acquiring(bench, bare, chain, "acquire_256", rounds)
        with awake():
            rows += await _acquiring(bench, bare, chain, "acquire_256_awake", rounds)
    return [*rows, await _evicting(bench, chance, rounds)]


async def _acquiring(bench: Bench, bare: BareTrips, chain: list[BlockName], name: str, rounds: int) -> list[Row]:
    calls, releases, trips, empty = [], [], [], []
    for _ in range(200 * rounds):
        trips.append(bare.seconds())
        empty.append(await _seconds(bench.round_trip()))
        started = time.perf_counter()
        leases = await bench.leased(chain)
        calls.append(time.perf_counter() - started)
        started = time.perf_counter()
        bench.session.release(leases)
        await bench.round_trip()  # it is done then
        releases.append(time.perf_counter() - started)
    calls.sort()
    trip = median(trips)
    return [
        *(
            Row.duration(f"{name}_p{percent}", calls[len(calls) * percent // 100] * 1e3, "ms", trip * 1e3)
            for percent in (50, 99)
        ),
        Row.duration(f"{name.replace('acquire', 'release')}_p50", median(releases) * 1e3, "ms", trip * 1e3),
        Row.duration(f"{name.replace('acquire_256', 'call')}_p50", median(empty) * 1e3, "ms", trip * 1e3),
    ]


async def _evicting(bench: Bench, chance: Random, rounds: int) -> Row:
    async def through() -> None:
        for _ in range(SMALL_SLOTS // CALL):
            names = [BlockName(chance.randbytes(16)) for _ in range(CALL)]
            grants = await bench.granted(names)
            bench.session.seal(grants, [0] * len(grants))
        await bench.round_trip()

    seconds = await in_turns({"evict": through}, rounds)
    return Row("evict", SMALL_SLOTS / seconds["evict"], "slots/s")


async def _seconds(work: Awaitable[object]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started
