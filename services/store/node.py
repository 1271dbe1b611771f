"""One host's store: the catalog, the arena it speaks of, and the sessions it answers.

The catalog decides; this shell gives it the time, passes its answers on, has its moves carried out, and
watches workers whose connection broke. Everything runs in one event loop, and every call into the
catalog is a matter of microseconds; bytes are moved by threads of the tiers.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, assert_never

from kvstore.arena import Arena
from kvstore.catalog import Catalog
from kvstore.frames import Grant
from kvstore.layout import Identity, KvLayout
from kvstore.names import BlockName
from kvstore.vocabulary import Answer, Demote, Drop, Fetch, Peer, Promote, SessionId, SlotRef
from services.runtime.logs import fields
from services.runtime.process import Refusal
from services.store.leftovers import clear_arena_directory
from services.store.liveness import SessionFile
from services.store.session import WorkerSession
from services.store.ssd_tier import SsdOptions, SsdTier
from services.wire.pb.store_pb2 import FromStore
from services.wire.store_codec import acquired_to_wire

OPENING_S = 3.0
"""How long the first workers wait for the SSD file to be searched; what is found later is found then."""

LOOK_S = 0.1
"""How often workers whose connection broke are looked at: what a dead one held is free that much later at most."""

log = logging.getLogger(__name__)


class NoSession(Exception):
    """This worker can't have a session now; the message is a sentence."""


class Peers(Protocol):
    """Whoever exchanges blocks with other stores."""

    def fetch(self, move: Fetch) -> None:
        """Begin it: seal its blocks as its session while they come, and end that session whatever happens.

        May end it before it returns; never calls ``settle`` before it has returned.
        """

    def push(
        self,
        session: SessionId,
        call: int,
        peer: Peer,
        names: Sequence[BlockName],
        *,
        last_is_short: bool,
        told: Callable[[Sequence[Grant]], None],
    ) -> None:
        """A worker's push begins. told: called once, soon or late, with a grant for each name."""

    def wrote(self, session: SessionId, refs: Sequence[SlotRef], first_layer: int, layers: int) -> None:
        """A worker has written these layers of these slots."""

    def push_end(self, session: SessionId, call: int) -> None:
        """What this push has left at the peer may go; fine if it has ended before."""

    def session_ended(self, session: SessionId) -> None:
        """A worker's; nothing is pushed for it any more."""


class StoreNode:
    """Owns ``arena`` and ``ssd`` from their making until ``close``."""

    def __init__(
        self,
        arena: Arena,
        *,
        name: str,
        incarnation: int,
        catalog: Catalog | None = None,
        ssd: SsdOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.catalog = Catalog() if catalog is None else catalog
        self.arena = arena
        self.name = name
        self.incarnation = incarnation
        self.clock = clock
        self.ssd = None if ssd is None else SsdTier(self.catalog, arena, ssd, settle=self.settle, clock=clock)
        self.peers: Peers | None = None
        """Plugged in by whoever starts transfers; without it nothing is found elsewhere."""
        self.transfer_address = ""
        """Where other stores reach it; empty where they can't."""
        self.errands: dict[SessionId, Callable[[Answer], None]] = {}
        """Sessions of the store's own, and who hears what the catalog answers them."""
        self.refused = asyncio.get_running_loop().create_future()
        """Resolved with a Refusal when this store can't serve the deployment that has come to it."""
        self._sessions: dict[SessionId, WorkerSession] = {}
        self._known: dict[SessionId, WorkerSession] = {}  # those that are set aside, too
        self._names = 0
        self._paused = False  # no moves are begun
        self._resetting = asyncio.Lock()
        self._deadlines = asyncio.Event()
        self._aside = asyncio.Event()

    @property
    def sessions(self) -> tuple[WorkerSession, ...]:
        """Those that are connected."""
        return tuple(self._sessions.values())

    async def adopt(self, identity: Identity, layout: KvLayout) -> None:
        """The first worker's identity becomes the store's; its SSD tier is on when this returns, or soon after.

        Raises NoSession where the arena is too small for a block.
        """
        if self.catalog.identity is None:
            self._adopt(identity, layout)
        if self.ssd is not None:
            await self.ssd.opened(OPENING_S)

    def hello(
        self,
        worker: str,
        incarnation: int,
        identity: Identity,
        session_file: Path,
        send: Callable[[FromStore], None],
    ) -> WorkerSession:
        """A new session, of a store that has adopted an identity. Raises IdentityMismatch, NoSession."""
        self._check_alone(worker, incarnation)
        self._names += 1
        id = SessionId(f"{worker}/{self._names}")
        answers = self.catalog.hello(id, worker=worker, incarnation=incarnation, identity=identity)
        session = WorkerSession(id, worker, incarnation, SessionFile(session_file), send)
        self._sessions[session.id] = session
        self._known[session.id] = session
        self.settle(answers)
        self._forget_gone()
        log.info("session", extra=fields(worker=worker, session=session.id))
        return session

    def end(self, session: WorkerSession) -> None:
        """Its connection has ended, for whatever reason."""
        if self._sessions.pop(session.id, None) is None:
            return
        dead = not session.session_file.is_alive()
        if self.peers is not None:
            self.peers.session_ended(session.id)
        self.settle(self.catalog.end(session.id, dead=dead))
        self._forget_gone()
        self._aside.set()
        log.info(
            "session ended",
            extra=fields(worker=session.worker, session=session.id, worker_is="dead" if dead else "alive"),
        )

    def settle(self, answers: Iterable[Answer] = ()) -> None:
        """After anything that was asked or told of the catalog: pass its answers on, and begin the moves it wants."""
        self._tell(answers)
        if self._paused:
            return
        for move in self.catalog.moves(now=self.clock()):
            match move:
                case Demote() | Promote():
                    assert self.ssd is not None, "there is nothing on an SSD that is not there"
                    self.ssd.carry_out(move)
                case Drop():
                    self.catalog.dropped(move)  # in the same breath, so that nobody can have leased it
                case Fetch():
                    self._fetch(move)
                case _:
                    assert_never(move)

    def _fetch(self, move: Fetch) -> None:
        if self.peers is None:
            self._tell(self.catalog.end(move.session, dead=True))
        else:
            self.peers.fetch(move)

    def _tell(self, answers: Iterable[Answer]) -> None:
        """Pass answers on to the sessions they are for, and mind new deadlines."""
        for answer in answers:
            session = self._sessions.get(answer.session)
            if session is not None:
                session.send(FromStore(call=answer.call, acquired=acquired_to_wire(answer.leases, done=answer.done)))
            elif (heard := self.errands.get(answer.session)) is not None:
                heard(answer)
        self._deadlines.set()

    async def run(self) -> None:
        """Deadlines, burials and moves, until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self.ssd is not None:
                group.create_task(self.ssd.run(), name="ssd")
            group.create_task(self._watch_deadlines(), name="deadlines")
            group.create_task(self._watch_set_aside(), name="set-aside sessions")

    async def reset(self) -> None:
        """Forget what nobody leases, in memory and on the SSD."""
        async with self._resetting:
            if self.ssd is not None:
                await self.ssd.searched()  # what is only being found is to be forgotten, too
            self._paused = True
            try:
                if self.ssd is not None:
                    await self.ssd.at_rest()
                self.catalog.reset()
                if self.ssd is not None:
                    await self.ssd.reset()
            finally:
                self._paused = False
                self.settle()

    async def drain(self, within_s: float) -> None:
        """For a clean shutdown, while ``run`` goes on: write what is still to be written, and an index of it all."""
        if self.ssd is None:
            return
        if not await self.ssd.written_behind(within_s):
            log.warning("not all was written to the SSD in time", extra=fields(blocks=self.ssd.pending))
        async with self._resetting:
            self._paused = True
            await self.ssd.at_rest()
            await self.ssd.save_index()

    def close(self) -> None:
        """Unlink and unmap; workers that still have it mapped keep the memory until they are done."""
        if self.ssd is not None:
            self.ssd.close()
        for session in self._known.values():
            session.session_file.close()
        self.arena.unlink()
        self.arena.close()

    def _adopt(self, identity: Identity, layout: KvLayout) -> None:
        slots = self.arena.size_bytes // layout.slot_bytes
        try:
            self.catalog.adopt(identity, layout, slots)
        except ValueError as error:
            refusal = Refusal(f"{error}: give a larger --dram")
            if not self.refused.done():
                self.refused.set_result(refusal)
            raise NoSession(str(refusal)) from error
        if self.ssd is not None:
            self.ssd.adopt(identity, layout)
        log.info("adopted", extra=fields(model=identity.model, dtype=identity.dtype, slots=slots))

    def _check_alone(self, worker: str, incarnation: int) -> None:
        """Ending the session of a process that lives and may be writing would hand its slots to others."""
        for session in self._known.values():
            other = session.worker == worker and session.incarnation != incarnation
            if other and session.session_file.is_alive():
                raise NoSession(f"another process that is called {worker} is alive; give each worker its own --id")

    def _forget_gone(self) -> None:
        known = {*self._sessions, *self.catalog.set_aside}
        for gone in self._known.keys() - known:
            self._known.pop(gone).session_file.close()

    async def _watch_deadlines(self) -> None:
        while True:
            self._deadlines.clear()
            deadline = self.catalog.next_deadline
            left_s = None if deadline is None else max(0.0, deadline - self.clock())
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._deadlines.wait()
                continue
            self.settle(self.catalog.tick(now=self.clock()))

    async def _watch_set_aside(self) -> None:
        while True:
            await self._aside.wait()
            self._aside.clear()
            while self.catalog.set_aside:
                await asyncio.sleep(LOOK_S)
                for session in self.catalog.set_aside:
                    if not self._known[session].session_file.is_alive():
                        self.catalog.buried(session)
                        log.info("buried", extra=fields(session=session))
                self.settle()
                self._forget_gone()


def make_arena(directory: Path, name: str, size_bytes: int, incarnation: int) -> Arena:
    """A new arena, after clearing what dead stores left; half a second per GiB. Raises ArenaError."""
    for leftover in clear_arena_directory(directory):
        log.info("cleared a leftover", extra=fields(path=leftover))
    return Arena.create(directory, f"moonpool-{name}-{incarnation:016x}", size_bytes)


def new_incarnation() -> int:
    return secrets.randbits(63) | 1
