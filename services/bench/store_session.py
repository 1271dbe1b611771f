"""A store process of its own, and a worker's session with it, for measuring them."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from kvstore.arena import Arena
from kvstore.layout import Identity, KvLayout
from kvstore.names import BlockName
from kvstore.vocabulary import Lease, Write
from scheduler.vocabulary import StoreId
from services.runtime.process import SUPERVISOR_PID
from services.wire.codec import identity_to_wire, layout_to_wire
from services.wire.errors import PeerError
from services.wire.pb.store_pb2 import Hello
from services.worker.session_lock import SessionLock
from services.worker.store_session import StoreSession
from services.worker.store_socket import store_socket

STDERR = 2
"""Where the store's own words go: stdout is for rows."""

START_S = 30.0
END_S = 10.0


class StoreProcessFailed(Exception):
    """The store did not start; its own words are in its log, on stderr."""


def identity_of(layout: KvLayout) -> Identity:
    return Identity("bench", "none", "none", layout.block_tokens, layout.digest)


@dataclass(slots=True)
class Bench:
    """A session, and the arena that its store lends."""

    session: StoreSession
    arena: Arena
    layout: KvLayout

    async def granted(self, names: list[BlockName]) -> list[Write]:
        """Slots for names that nobody has; AssertionError where one is not granted."""
        grants: list[Write] = []

        def take(answer: object) -> None:
            assert isinstance(answer, list)
            grants.extend(answer)

        await self.session.allocate(names, last_is_short=False, hold=False, granted=take)
        assert all(isinstance(grant, Write) for grant in grants), "a benchmark's names are new and there is room"
        return grants

    async def leased(self, names: list[BlockName]) -> list[Lease]:
        """Leases on names that the store has; AssertionError where it lacks one."""
        leases: list[Lease] = []
        await self.session.acquire(names, deadline_s=10.0, leased=leases.extend)
        assert len(leases) == len(names), "a benchmark asks for what is there"
        return leases

    async def round_trip(self) -> None:
        """What any call costs at all; everything said before has been done when it returns."""
        await self.session.allocate([], last_is_short=False, hold=False, granted=lambda _: None)


@asynccontextmanager
async def store_process(
    directory: Path,
    arena_dir: Path,
    layout: KvLayout,
    slots: int,
    *,
    name: str = "bench-store",
    more: Sequence[str] = (),
    identity: Identity | None = None,
) -> AsyncIterator[Bench]:
    """A store with that many slots in memory and no SSD, and a session with it. Raises StoreProcessFailed.

    more: flags. identity: of the deployment, where it is not the benchmark's own.
    """
    target = f"unix:{directory / 'store.sock'}"
    flags = [f"--listen={target}", f"--id={name}", f"--dram={slots * layout.slot_bytes}", "--log-level=warning"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "moonpool", "store", *flags, f"--arena-dir={arena_dir}", *more),
        env={**os.environ, SUPERVISOR_PID: str(os.getpid())},
        stdout=STDERR,
    )
    try:
        async with store_session(target, directory, layout, identity=identity) as bench:
            yield bench
    except (TimeoutError, PeerError) as error:
        raise StoreProcessFailed(f"the store process can't be measured: {error or 'it does not start'}") from error
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), END_S)


@asynccontextmanager
async def store_session(
    target: str, directory: Path, layout: KvLayout, *, worker: str = "bench", identity: Identity | None = None
) -> AsyncIterator[Bench]:
    """A worker's session with the store at ``target``. Raises TimeoutError, PeerError."""
    async with AsyncExitStack() as stack:
        socket = await stack.enter_async_context(store_socket(target, within_s=START_S, wait=True))
        lock = SessionLock(directory, worker, 1)
        stack.callback(lock.release)
        identity = identity or identity_of(layout)
        hello = Hello(
            worker=worker,
            incarnation=1,
            identity=identity_to_wire(identity),
            layout=layout_to_wire(layout),
            session_file=str(lock.path),
        )
        welcome = await socket.hello(hello)
        arena = Arena.open(Path(welcome.arena))
        stack.callback(arena.close)
        session = StoreSession(StoreId(welcome.store), 1, socket.send)
        socket.hear = session.answered
        socket.ended.add_done_callback(lambda _: session.end())  # nobody waits for an answer that will not come
        stack.callback(session.end)
        yield Bench(session, arena, layout)
