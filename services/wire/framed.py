"""Protobuf messages over a Unix socket, each behind its length: for two processes of one host.

    u32 little-endian length | message

A message is heard and answered in the loop's own call, with no task, thread or queue in between: a round trip
costs a third of what it costs over grpc.aio. Both directions are bounded, a message by MESSAGE_BYTES and what
the other side has not read by UNSENT_BYTES.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from google.protobuf.message import DecodeError, Message

from services.wire.errors import CannotListen, WireError

MESSAGE_BYTES = 16 << 20
"""Names are 16 B, so a call may speak of a million blocks."""

UNSENT_BYTES = 8 << 20
"""Of messages that the other side has not read; with more it is given up. Leases on 256 blocks take 5 KB."""

LAST_WORDS_S = 1.0
"""How long a connection that is being closed waits for the other side to read what was said last."""

LENGTH_BYTES = 4

Heard = TypeVar("Heard", bound=Message)


class Framed(asyncio.Protocol, Generic[Heard]):
    """One end of a connection. All of its callbacks come from the loop.

    heard: called for each message, in order; may raise WireError. broken: no correct sender sent that; nothing more is
    heard. lost: the connection is gone, called once.
    """

    def __init__(
        self,
        kind: type[Heard],
        *,
        heard: Callable[[Heard], None],
        broken: Callable[[WireError], None],
        lost: Callable[[], None],
    ) -> None:
        self._kind = kind
        self._heard = heard
        self._broken = broken
        self._lost = lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._deaf = False
        self._left = False
        self._closing: asyncio.TimerHandle | None = None

    def send(self, message: Message) -> bool:
        """Never waits. False where the other side does not read, so that nothing more should be said to it."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return True  # whoever cares is told that it is lost
        body = message.SerializeToString()
        transport.write(len(body).to_bytes(LENGTH_BYTES, "little") + body)
        return transport.get_write_buffer_size() <= UNSENT_BYTES

    def pause(self) -> None:
        """Hear nothing until ``resume``; what comes meanwhile waits in the socket."""
        self._deaf = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        self._deaf = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._hear()

    def close(self) -> None:
        """Hear nothing more; what was said is still sent, within LAST_WORDS_S."""
        self._deaf = self._left = True
        if self._transport is not None and self._closing is None:
            self._transport.close()
            self._closing = asyncio.get_running_loop().call_later(LAST_WORDS_S, self._transport.abort)

    def abort(self) -> None:
        """At once, whatever has not been sent; fine if it is gone, or not there yet."""
        self._deaf = self._left = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._left:  # given up while it was being accepted
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._hear()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deaf, self._transport = True, None
        if self._closing is not None:
            self._closing.cancel()
        self._lost()

    def _hear(self) -> None:
        try:
            while not self._deaf and (body := self._next()) is not None:
                self._heard(_parsed(self._kind, body))
        except WireError as error:
            self._deaf = True
            self._broken(error)

    def _next(self) -> bytes | None:
        """The next message that is there whole."""
        buffer = self._buffer
        if len(buffer) < LENGTH_BYTES:
            return None
        end = LENGTH_BYTES + int.from_bytes(buffer[:LENGTH_BYTES], "little")
        if end > LENGTH_BYTES + MESSAGE_BYTES:
            raise WireError(f"a message of {end - LENGTH_BYTES} bytes is longer than any")
        if len(buffer) < end:
            return None
        body = bytes(buffer[LENGTH_BYTES:end])
        del buffer[:end]
        return body


def _parsed(kind: type[Heard], body: bytes) -> Heard:
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise WireError("bytes that are no message") from error


class Listener:
    """A socket that connections come in by."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server

    def close(self) -> None:
        """Nobody is accepted from now on; idempotent. Who has been accepted just now still makes its connection.

        So the server ends a turn of the loop later: one that ends between the two leaves a socket that nobody closes.
        """
        loop = asyncio.get_running_loop()
        for sock in self._server.sockets:
            loop.remove_reader(sock.fileno())
        loop.call_soon(self._server.close)


async def listen(path: Path, made: Callable[[], asyncio.Protocol]) -> Listener:
    """Serve at ``path``, for this user only; who calls closes it and removes the path. Raises CannotListen."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_address(path) as address:
            sock.bind(address)
            os.chmod(address, 0o600)  # before it listens, so that nobody else ever gets in
    except OSError as error:
        sock.close()
        raise CannotListen(f"can't listen at {path}: {error.strerror or error}") from error
    return Listener(await asyncio.get_running_loop().create_unix_server(made, sock=sock))


async def connect(path: Path, protocol: asyncio.Protocol) -> None:
    """Raises OSError."""
    with short_address(path) as address:
        await asyncio.get_running_loop().create_unix_connection(lambda: protocol, address)


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """A name for it that fits a socket's address, which holds 107 bytes, however long the path is."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
