"""Rows of two store processes that exchange blocks, as their workers see it.

push, fetch         from the worker's message until all is leased at the other store, 1.5 MB a block, verified there.
                    limit: a bare copy of the same bytes between two processes, verified too (transfer_bare.py)
push_tls, fetch_tls the same over TLS, and so is the limit
push_by_layer_S     the same blocks in slices of S, one layer of all blocks after the other, as a prefill writes them
"""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from kvstore.arena import Arena
from kvstore.checksum import slot_checksum
from kvstore.layout import Identity, KvLayout
from kvstore.names import BlockName
from kvstore.vocabulary import Lease, Write
from scheduler.vocabulary import StoreId, StoreTarget
from services.bench.rows import Row
from services.bench.store_session import Bench, store_process
from services.bench.transfer_bare import BareCopy, TlsFiles, bare_copy

KIB = 1 << 10
SMOL = KvLayout(64, (48 * KIB,) * 30, "bytes")
"""SmolLM2-135M's: 30 layers of 48 KiB, 1.5 MB a block."""
THIN = KvLayout(64, (4 * KIB,) * 30, "bytes")
"""A tenth of it: what a smaller model, or smaller blocks, would have."""

FROM_BATCHES, TO_BATCHES = 2, 5
"""Sizes of the two arenas. A fetch may have a quarter of the arena under way, which is a whole batch here."""


@dataclass(slots=True)
class Hosts:
    """A session with each of two stores, and where they reach each other. Slots keep the bytes they begin with."""

    here: Bench
    there: Bench
    here_target: StoreTarget
    there_target: StoreTarget
    here_listens: str
    checksums: list[int] = field(default_factory=list)  # by slot, of the arena here
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def fill(self) -> None:
        layout, view = self.here.layout, self.here.arena.view
        np.frombuffer(view, np.uint8)[:] = np.random.default_rng(1).integers(0, 256, len(view), np.uint8)
        self.checksums = [slot_checksum(view, slot, layout) for slot in range(len(view) // layout.slot_bytes)]

    def names(self, blocks: int) -> list[BlockName]:
        """New ones, of one prefix."""
        return [BlockName(next(self._numbers).to_bytes(16, "big")) for _ in range(blocks)]

    async def sealed(self, blocks: int) -> list[BlockName]:
        """New blocks that are here."""
        names = self.names(blocks)
        self.seal(await self.here.granted(names))
        await self.here.round_trip()
        return names

    def seal(self, grants: Sequence[Write]) -> None:
        self.here.session.seal(grants, [self.checksums[grant.slot] for grant in grants])

    async def arrived(self, names: list[BlockName], source: StoreTarget | None = None) -> None:
        """Until all of it is leased there, where it is also released; AssertionError where some is missing."""
        leases: list[Lease] = []
        await self.there.session.acquire(
            names, deadline_s=30.0, leased=leases.extend, handoff=source is None, source=source
        )
        assert len(leases) == len(names), f"{len(leases)} of {len(names)} blocks have arrived"
        self.there.session.release(leases)


Measured = Callable[[], Awaitable[float]]
"""One try; its seconds, without what had to be prepared."""


@asynccontextmanager
async def two_stores(
    directory: Path,
    arena_dir: Path,
    layout: KvLayout,
    batch: int,
    tls: TlsFiles | None = None,
    identity: Identity | None = None,
) -> AsyncIterator[Hosts]:
    """batch: blocks. Raises StoreProcessFailed."""
    async with AsyncExitStack() as stack:
        benches: list[Bench] = []
        listens: list[str] = []
        targets: list[StoreTarget] = []
        for name, batches in (("bench-here", FROM_BATCHES), ("bench-there", TO_BATCHES)):
            own = Path(stack.enter_context(TemporaryDirectory(dir=directory)))
            target = StoreTarget(StoreId(name), f"127.0.0.1:{_free_port()}")
            flags = [f"--transfer-listen={target.address}", *([] if tls is None else tls.flags)]
            process = store_process(own, arena_dir, layout, batches * batch, name=name, more=flags, identity=identity)
            benches.append(await stack.enter_async_context(process))
            targets.append(target)
            listens.append(f"unix:{own / 'store.sock'}")
        hosts = Hosts(benches[0], benches[1], targets[0], targets[1], listens[0])
        await asyncio.to_thread(hosts.fill)
        yield hosts


async def transfer_rows(
    directory: Path, arena_dir: Path, *, rounds: int, batch_bytes: int, tls: TlsFiles | None
) -> list[Row]:
    """Raises StoreProcessFailed."""
    batch = max(1, batch_bytes // SMOL.block_bytes)
    async with two_stores(directory, arena_dir, SMOL, batch, tls) as hosts:
        with _bare_copy(hosts, arena_dir, TO_BATCHES * batch, tls) as bare:
            speed = await _speeds(_whole(hosts, bare, batch), rounds, batch * SMOL.block_bytes)
    names = ("push", "fetch") if tls is None else ("push_tls", "fetch_tls")
    return [Row.rate(name, speed[name.removesuffix("_tls")], "GB/s", speed["bare"]) for name in names]


async def layer_rows(directory: Path, arena_dir: Path, *, rounds: int, batch_bytes: int) -> list[Row]:
    """Layer by layer, of large layers and of small ones. Raises StoreProcessFailed."""
    rows = []
    for layout in (SMOL, THIN):
        batch = max(1, batch_bytes // SMOL.block_bytes)  # as many blocks, so a tenth of the bytes
        async with two_stores(directory, arena_dir, layout, batch) as hosts:
            with _bare_copy(hosts, arena_dir, TO_BATCHES * batch) as bare:
                works: dict[str, Measured] = {
                    "by_layer": partial(_by_layer, hosts, batch),
                    "bare": _whole(hosts, bare, batch)["bare"],
                }
                speed = await _speeds(works, rounds, batch * layout.block_bytes)
        name = f"push_by_layer_{layout.layer_bytes[0] // KIB}KiB"
        rows.append(Row.rate(name, speed["by_layer"], "GB/s", speed["bare"]))
    return rows


def _whole(hosts: Hosts, bare: BareCopy, batch: int) -> dict[str, Measured]:
    async def push() -> float:
        names = await hosts.sealed(batch)
        started = time.perf_counter()
        pushing = hosts.here.session.push(hosts.there_target, names, last_is_short=False)
        await pushing.done
        await hosts.arrived(names)
        taken = time.perf_counter() - started
        hosts.here.session.push_end(pushing)
        return taken

    async def fetch() -> float:
        names = await hosts.sealed(batch)
        started = time.perf_counter()
        await hosts.arrived(names, hosts.here_target)
        return time.perf_counter() - started

    async def copy() -> float:
        started = time.perf_counter()
        await asyncio.to_thread(bare.send, range(batch), hosts.checksums[:batch])
        return time.perf_counter() - started

    return {"push": push, "fetch": fetch, "bare": copy}


async def _by_layer(hosts: Hosts, batch: int) -> float:
    names = hosts.names(batch)
    grants = await hosts.here.granted(names)
    session = hosts.here.session
    started = time.perf_counter()
    pushing = session.push(hosts.there_target, names, last_is_short=False)
    await pushing.done
    for layer in range(hosts.here.layout.layers):
        session.wrote(grants, layer, 1)
    hosts.seal(grants)
    await hosts.arrived(names)
    taken = time.perf_counter() - started
    session.push_end(pushing)
    return taken


async def _speeds(works: dict[str, Measured], rounds: int, count_bytes: int) -> dict[str, float]:
    """GB/s of each: medians, measured in turns. The first rounds touch all memory there is, and don't count."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(TO_BATCHES + rounds):
        for name, work in works.items():
            seconds = await work()
            if number >= TO_BATCHES:
                taken[name].append(seconds)
    return {name: count_bytes / median(seconds) / 1e9 for name, seconds in taken.items()}


@contextmanager
def _bare_copy(hosts: Hosts, arena_dir: Path, slots: int, tls: TlsFiles | None = None) -> Iterator[BareCopy]:
    """From the arena here to a spare one, as large as the one that the stores' blocks arrive in."""
    layout = hosts.here.layout
    spare = Arena.create(arena_dir, f"moonpool-bench-bare-{os.getpid()}", slots * layout.slot_bytes)
    try:
        with bare_copy(hosts.here.arena, spare, layout, tls) as bare:
            yield bare
    finally:
        spare.unlink()
        spare.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
