"""Keep a session with the host's store: connect, map its arena, begin anew when it ends.

    connect -> hello -> welcome -> map the arena -> session -> its end -> unmap -> (a pause) -> connect ..

Unmapping is a job of the model thread, so when it is done no earlier job touches a slot
of the session that ended: only then is hello said again, by which the store frees them.
A store that is away costs nothing but a cache; one that refuses us ends the process.
"""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kvstore.arena import Arena, ArenaError
from kvstore.layout import Identity, KvLayout
from scheduler.vocabulary import StoreId
from services.registry.directory import Directory
from services.runtime.logs import fields
from services.runtime.process import Refusal
from services.wire import codec
from services.wire.errors import PeerError, PeerRefused, WireError
from services.wire.pb.store_pb2 import Hello, Welcome
from services.wire.tls import Tls
from services.worker.model import Model
from services.worker.model_thread import ModelThread
from services.worker.session_lock import SessionLock
from services.worker.store_session import StoreAway, StoreSession
from services.worker.store_socket import StoreSocket, store_socket

PAUSES_S = (0.05, 0.1, 0.2, 0.5)
"""Before the second attempt, the third ..; the last one stays. Trying costs a millisecond."""

STARTING = 20
"""Attempts before a store that was never there is missed: about 10 s, as all start at once and some take longer."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a worker says of itself in its hello."""

    worker: str
    incarnation: int
    identity: Identity
    layout: KvLayout
    lock: SessionLock

    def to_wire(self) -> Hello:
        return Hello(
            worker=self.worker,
            incarnation=self.incarnation,
            identity=codec.identity_to_wire(self.identity),
            layout=codec.layout_to_wire(self.layout),
            session_file=str(self.lock.path),
        )


class StoreLink:
    """``session`` is the live one, or None: then the worker does without."""

    def __init__(self, introduction: Introduction, thread: ModelThread, model: Model, tls: Tls | None = None) -> None:
        self.session: StoreSession | None = None
        self.connected = asyncio.Event()
        """Set while there is a session."""
        self._tls = tls
        self._introduction = introduction
        self._thread = thread
        self._model = model
        self._epoch = 0

    async def run(self, others: Directory) -> None:
        """With the store that ``others`` has at each attempt, until cancelled. Raises Refusal with its sentence."""
        attempt, wanted = 0, True
        while True:
            target, reason = others.store, ""
            try:
                if target is None:
                    raise StoreAway("no store of this host is known yet")
                await self._one_session(target)
            except PeerRefused as refused:
                raise Refusal(f"the store at {target} refuses this worker: {refused}") from refused
            except (PeerError, ArenaError, WireError, StoreAway, TimeoutError) as error:
                reason = str(error) or "no answer"
            if self.connected.is_set():
                self.connected.clear()
                attempt = 0
                log.warning("store session ended", extra=fields(target=target, reason=reason))
                wanted = False
            elif attempt == (STARTING if wanted else 0):
                log.warning("store away", extra=fields(target=target, reason=reason))
            await asyncio.sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])
            attempt += 1

    async def _one_session(self, target: str) -> None:
        """Returns never; raises what ended the session."""
        try:
            self._introduction.lock.restore()
        except OSError as error:
            raise StoreAway(f"the session's lock file was removed and can't be made: {error.strerror}") from error
        async with store_socket(target, self._tls) as socket:
            welcome = await socket.hello(self._introduction.to_wire())
            arena = self._opened(welcome)
            self._epoch += 1
            try:
                await self._thread.run(partial(self._model.arena.map, arena, self._epoch))
                await self._converse(socket, welcome)
            finally:
                await self._thread.run(self._model.arena.unmap)

    def _opened(self, welcome: Welcome) -> Arena:
        layout = self._introduction.layout
        if welcome.slot_bytes != layout.slot_bytes:
            raise WireError(f"the store's slots have {welcome.slot_bytes} bytes, not {layout.slot_bytes}")
        arena = Arena.open(Path(welcome.arena))
        if arena.size_bytes < welcome.slots * welcome.slot_bytes:
            arena.close()
            raise ArenaError(f"the arena {welcome.arena} is smaller than its slots")
        return arena

    async def _converse(self, socket: StoreSocket, welcome: Welcome) -> None:
        session = StoreSession(StoreId(welcome.store), self._epoch, socket.send)
        socket.hear = session.answered
        given_up = asyncio.create_task(session.ended.wait(), name="store session")
        self.session = session
        self.connected.set()
        log.info("store session", extra=fields(store=welcome.store, slots=welcome.slots))
        try:
            either: list[asyncio.Future[Any]] = [socket.ended, given_up]  # Any: they differ in what they bring
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            session.end()
            self.session = None
            socket.leave()
            given_up.cancel()
        if socket.ended.done():
            await socket.ended
        raise StoreAway(session.why_ended)
