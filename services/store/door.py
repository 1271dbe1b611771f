"""Where workers come in: a Unix socket beside the arena, a session for each connection.

    connected -> Hello, within HELLO_S -> Welcome -> conversation -> the end, of either side's making

A worker that is refused is told so in its last message. However a connection ends, its session ends in
the same breath. Who may connect is a matter of the file's mode: this user, as with the arena itself.
"""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

import grpc

from kvstore.arena import door_of
from kvstore.vocabulary import IdentityMismatch
from services.runtime.logs import fields
from services.store.conversation import Conversation
from services.store.metrics import StoreMetrics
from services.store.node import NoSession, StoreNode
from services.store.session import WorkerSession
from services.wire import codec
from services.wire.errors import CannotListen, WireError
from services.wire.framed import Framed, Listener, listen
from services.wire.pb.store_pb2 import FromStore, Hello, Refused, ToStore, Welcome
from services.wire.socket_file import SocketFile, clear_dead
from services.wire.turned_away import TurnedAway

HELLO_S = 10.0

STATUS = {
    WireError: grpc.StatusCode.INVALID_ARGUMENT,
    IdentityMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    NoSession: grpc.StatusCode.UNAVAILABLE,
}
"""Of a hello that is refused."""

LOOK_S = 1.0
"""How often it is looked whether the files of door and arena are still there: two calls that cost microseconds."""

log = logging.getLogger(__name__)


class Door:
    """Owns the socket and whoever has come in by it, until ``close``."""

    def __init__(
        self, node: StoreNode, metrics: StoreMetrics, *, hello_s: float = HELLO_S, look_s: float = LOOK_S
    ) -> None:
        self._node = node
        self._metrics = metrics
        self._hello_s = hello_s
        self._turned_away = TurnedAway()
        self._look_s = look_s
        self._visitors: set[Visitor] = set()
        self._listener: Listener | None = None
        self._file: SocketFile | None = None
        self._closed = False

    @property
    def path(self) -> Path:
        return door_of(self._node.arena.path)

    async def open(self) -> None:
        """Raises CannotListen."""
        self._listener = await listen(self.path, self._come_in)
        self._file = SocketFile(self.path)

    async def keep(self) -> None:
        """Until cancelled: open it again where its file was removed. That and a removed arena are said, once each."""
        said = False
        while True:
            await asyncio.sleep(self._look_s)
            arena = self._node.arena
            if not arena.is_named and not said:
                said = True
                where = fields(arena=arena.path, workers_reach_it_at=arena.reachable)
                log.warning("the arena's file was removed", extra=where)
            if self._file is None or self._file.is_lost():
                await self._open_again()

    async def _open_again(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = self._file = None
            log.warning("the socket for workers was removed and is made anew", extra=fields(path=self.path))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            clear_dead(self.path)
            await self.open()
        except (CannotListen, OSError) as error:
            log.debug("no socket for workers", extra=fields(reason=error))  # the next look tries again

    def close(self) -> None:
        """Every session ends; idempotent."""
        self._closed = True
        if self._listener is not None:
            self._listener.close()
        with suppress(OSError):  # its directory may be gone, or something else by now
            self.path.unlink()
        for visitor in tuple(self._visitors):
            visitor.leave()

    def _come_in(self) -> Framed[ToStore]:
        visitor = Visitor(
            self._node, self._metrics, self._visitors, hello_s=self._hello_s, turned_away=self._turned_away
        )
        self._visitors.add(visitor)
        if self._closed:  # it was accepted before, and made a connection only now
            visitor.leave()
        return visitor.connection


class Visitor:
    """One connection, from before its hello to its end; one of ``others`` as long as it is there."""

    def __init__(
        self,
        node: StoreNode,
        metrics: StoreMetrics,
        others: "set[Visitor]",
        *,
        hello_s: float,
        turned_away: TurnedAway,
    ) -> None:
        self._turned_away = turned_away
        self.connection = Framed(ToStore, heard=self._heard, broken=self._broken, lost=self.leave)
        self._node = node
        self._metrics = metrics
        self._others = others
        self._loop = asyncio.get_running_loop()
        self._session: WorkerSession | None = None
        self._conversation: Conversation | None = None
        self._greeting: asyncio.Task[None] | None = None
        late = "a session begins with Hello, soon"
        self._patience = self._loop.call_later(hello_s, self._refuse, grpc.StatusCode.DEADLINE_EXCEEDED, late)

    def leave(self) -> None:
        """It is gone, or has to go; idempotent."""
        self._end()
        self.connection.abort()

    def _heard(self, message: ToStore) -> None:
        if self._conversation is not None:
            self._conversation.hear(message)
        elif message.WhichOneof("kind") == "hello":
            self._patience.cancel()
            self.connection.pause()
            self._greeting = asyncio.create_task(self._greet(message), name=f"hello of {message.hello.worker}")
        else:
            raise WireError("a session begins with Hello")

    async def _greet(self, message: ToStore) -> None:
        try:
            self._session = await self._introduced(message.hello)
        except (WireError, IdentityMismatch, NoSession) as error:
            self._turned_away.say(message.hello.worker, str(error))
            self._refuse(STATUS[type(error)], str(error))
        else:
            self._conversation = Conversation(self._node, self._metrics, self._session)
            self._session.send(FromStore(call=message.call, welcome=self._welcome()))
            self.connection.resume()

    async def _introduced(self, hello: Hello) -> WorkerSession:
        identity, layout = codec.identity_from_wire(hello.identity), codec.layout_from_wire(hello.layout)
        if layout.digest != identity.layout or layout.block_tokens != identity.block_tokens:
            raise WireError(f"worker {hello.worker} says hello with a layout that is not its identity's")
        await self._node.adopt(identity, layout)
        return self._node.hello(hello.worker, hello.incarnation, identity, Path(hello.session_file), self._tell)

    def _welcome(self) -> Welcome:
        layout = self._node.catalog.layout
        assert layout is not None, "adopted by now"
        return Welcome(
            store=self._node.name,
            incarnation=self._node.incarnation,
            arena=str(self._node.arena.reachable),
            arena_bytes=self._node.arena.size_bytes,
            slot_bytes=layout.slot_bytes,
            slots=self._node.catalog.snapshot().total,
        )

    def _tell(self, message: FromStore) -> None:
        if not self.connection.send(message):
            # Not here and now: whoever tells may be in the middle of telling others.
            self._loop.call_soon(
                self._refuse, grpc.StatusCode.RESOURCE_EXHAUSTED, "this worker does not read its answers"
            )

    def _broken(self, error: WireError) -> None:
        self._refuse(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    def _refuse(self, status: grpc.StatusCode, sentence: str) -> None:
        self._end()
        self.connection.send(FromStore(refused=Refused(status=status.value[0], sentence=sentence)))
        self.connection.close()

    def _end(self) -> None:
        self._patience.cancel()
        self._others.discard(self)
        if self._greeting is not None and self._greeting is not asyncio.current_task():
            self._greeting.cancel()
        session, self._session = self._session, None
        if session is not None:
            self._node.end(session)
