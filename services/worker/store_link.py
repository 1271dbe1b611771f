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
from typing import TYPE_CHECKING, Any

import grpc

from kvstore.arena import Arena, ArenaError
from kvstore.layout import Identity, KvLayout
from scheduler.vocabulary import StoreId
from services.registry.directory import Directory
from services.runtime.logs import fields
from services.runtime.process import Refusal
from services.wire import codec
from services.wire.channel import open_channel
from services.wire.errors import PeerError, PeerRefused, PeerUnavailable, WireError, rpc_errors
from services.wire.pb.store_pb2 import FromStore, Hello, ToStore, Welcome
from services.wire.pb.store_pb2_grpc import StoreStub
from services.wire.tls import Tls
from services.worker.model import Model
from services.worker.model_thread import ModelThread
from services.worker.store_session import StoreAway, StoreSession

if TYPE_CHECKING:
    from services.wire.pb.store_pb2_grpc import StoreAsyncStub

PAUSES_S = (0.05, 0.1, 0.2, 0.5)
"""Before the second attempt, the third ..; the last one stays. Trying costs a millisecond."""

WELCOME_S = 5.0

log = logging.getLogger(__name__)

Call = grpc.aio.StreamStreamCall[ToStore, FromStore]


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a worker says of itself in its hello."""

    worker: str
    incarnation: int
    identity: Identity
    layout: KvLayout
    session_file: Path

    def to_wire(self) -> Hello:
        return Hello(
            worker=self.worker,
            incarnation=self.incarnation,
            identity=codec.identity_to_wire(self.identity),
            layout=codec.layout_to_wire(self.layout),
            session_file=str(self.session_file),
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
        attempt = 0
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
            elif attempt == 0:
                log.warning("store away", extra=fields(target=target, reason=reason))
            await asyncio.sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])
            attempt += 1

    async def _one_session(self, target: str) -> None:
        """Returns never; raises what ended the session."""
        async with open_channel(target, self._tls) as channel:  # a new one: none of its own pauses in between
            stub: StoreAsyncStub = StoreStub(channel)
            with rpc_errors():
                call = stub.Session()
                try:
                    welcome = await self._hello(call)
                    arena = _open(welcome)
                    self._epoch += 1
                    try:
                        await self._thread.run(partial(self._model.arena.map, arena, self._epoch))
                        await self._converse(call, welcome)
                    finally:
                        await self._thread.run(self._model.arena.unmap)
                finally:
                    call.cancel()

    async def _hello(self, call: Call) -> Welcome:
        async with asyncio.timeout(WELCOME_S):
            await _write(call, ToStore(hello=self._introduction.to_wire()))
            message = await _read(call)
        if message.WhichOneof("kind") != "welcome":
            raise WireError("the store answered hello with something else than a welcome")
        layout = self._introduction.layout
        if message.welcome.slot_bytes != layout.slot_bytes:
            raise WireError(f"the store's slots have {message.welcome.slot_bytes} bytes, not {layout.slot_bytes}")
        return message.welcome

    async def _converse(self, call: Call, welcome: Welcome) -> None:
        session = StoreSession(StoreId(welcome.store), self._epoch)
        tasks = [
            asyncio.create_task(_read_all(call, session), name="store session reads"),
            asyncio.create_task(_write_all(call, session), name="store session writes"),
            asyncio.create_task(_ended(session), name="store session"),
        ]
        self.session = session
        self.connected.set()
        log.info("store session", extra=fields(store=welcome.store, slots=welcome.slots))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            session.end()
            self.session = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            await task


def _open(welcome: Welcome) -> Arena:
    arena = Arena.open(Path(welcome.arena))
    if arena.size_bytes < welcome.slots * welcome.slot_bytes:
        arena.close()
        raise ArenaError(f"the arena {welcome.arena} is smaller than its slots")
    return arena


async def _read_all(call: Call, session: StoreSession) -> None:
    while True:
        session.answered(await _read(call))


async def _write_all(call: Call, session: StoreSession) -> None:
    while True:
        await _write(call, await session.outbox.get())


async def _ended(session: StoreSession) -> None:
    await session.ended.wait()
    raise StoreAway("the store does not keep up")


async def _read(call: Call) -> FromStore:
    message: Any = await call.read()  # Any: EOF has no type of its own
    if message is grpc.aio.EOF:
        raise PeerUnavailable("the store ended the session")
    assert isinstance(message, FromStore)
    return message


async def _write(call: Call, message: ToStore) -> None:
    try:
        await call.write(message)
    except asyncio.InvalidStateError:  # grpc's word for a call that has ended; reading it tells why
        await _read(call)
        raise PeerUnavailable("the store ended the session") from None
