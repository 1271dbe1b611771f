"""A worker's end of the connection with its host's store: what is heard, and why it ended.

The store is asked over gRPC where its door is, each time anew: it says so of the arena that it has
now. Everything else goes over that Unix socket.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from services.wire.channel import open_channel
from services.wire.errors import PeerUnavailable, WireError, peer_error, rpc_errors
from services.wire.framed import Framed, connect
from services.wire.pb.common_pb2 import Empty
from services.wire.pb.store_pb2 import FromStore, Hello, ToStore, Welcome
from services.wire.pb.store_pb2_grpc import StoreStub
from services.wire.tls import Tls

WELCOME_S = 5.0
"""For the answer to a hello: a store that has just started may be searching its SSD file for three of them."""


class StoreSocket:
    """Made by ``store_socket``. hear: is called for each message, in order; may raise WireError."""

    def __init__(self) -> None:
        self.hear: Callable[[FromStore], None] = lambda message: None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises PeerError or WireError when the connection has ended."""
        self.connection = Framed(FromStore, heard=self._heard, broken=self._fail, lost=self._lost)

    def send(self, message: ToStore) -> bool:
        """Never waits. False where the store does not keep up: then nothing more should be said."""
        return self.connection.send(message)

    def leave(self) -> None:
        """Nothing more is said or heard; idempotent."""
        self.connection.abort()

    async def hello(self, hello: Hello) -> Welcome:
        """Say it, and wait for the welcome. Raises PeerError, WireError, TimeoutError."""
        first: asyncio.Future[FromStore] = asyncio.get_running_loop().create_future()
        self.hear = first.set_result
        self.send(ToStore(hello=hello))
        either: list[asyncio.Future[Any]] = [first, self.ended]  # Any: they differ in what they bring
        async with asyncio.timeout(WELCOME_S):
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not first.done():
            await self.ended
        self.hear = lambda message: None
        if first.result().WhichOneof("kind") != "welcome":
            raise WireError("the store answered hello with something else than a welcome")
        return first.result().welcome

    def _heard(self, message: FromStore) -> None:
        if message.WhichOneof("kind") == "refused":
            self._fail(peer_error(message.refused.status, message.refused.sentence))
        else:
            self.hear(message)

    def _lost(self) -> None:
        self._fail(PeerUnavailable("the store ended the session"))

    def _fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)
            self.ended.exception()  # seen: nobody may be waiting for it
        self.connection.abort()


@asynccontextmanager
async def store_socket(
    target: str, tls: Tls | None = None, *, within_s: float = WELCOME_S, wait: bool = False
) -> AsyncIterator[StoreSocket]:
    """Connected with the store that listens at ``target``, in this block. Raises PeerError.

    wait: for a store that is not there yet, up to within_s.
    """
    async with open_channel(target, tls) as channel:  # a new one: none of its own pauses in between
        with rpc_errors():
            door = await StoreStub(channel).Enter(Empty(), timeout=within_s, wait_for_ready=wait)
    it = StoreSocket()
    try:
        await connect(Path(door.socket), it.connection)
    except OSError as error:
        raise PeerUnavailable(f"the store's door {door.socket} is closed: {error.strerror or error}") from error
    try:
        yield it
    finally:
        it.leave()
