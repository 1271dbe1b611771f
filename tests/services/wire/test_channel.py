"""Serving and calling over a socket of one's own, and how failures of a call are named."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from services.wire import channel
from services.wire.channel import open_channel, serve
from services.wire.errors import (
    MARK,
    CannotListen,
    DeadlinePassed,
    PeerBusy,
    PeerDiffers,
    PeerError,
    PeerFailed,
    PeerRefused,
    PeerUnavailable,
    PeerUnusable,
    rpc_errors,
)
from services.wire.pb.common_pb2 import Empty
from tests.services.serving import serving


def always(code: grpc.StatusCode, sentence: str, *, ours: bool = True) -> Callable[[grpc.aio.Server], None]:
    """A server whose one method ends every call with this status."""

    async def answer(request: Empty, context: grpc.aio.ServicerContext[Empty, Empty]) -> Empty:
        await context.abort(code, sentence, (MARK,) if ours else ())
        raise AssertionError("abort raises")

    handler = grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=Empty.FromString, response_serializer=Empty.SerializeToString
    )

    def add(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Test", {"Call": handler})])

    return add


async def call(target: str, timeout_s: float = 5.0) -> None:
    async with open_channel(target) as channel:
        method = channel.unary_unary(
            "/test.Test/Call", request_serializer=Empty.SerializeToString, response_deserializer=Empty.FromString
        )
        with rpc_errors():
            await method(Empty(), timeout=timeout_s)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, PeerUnavailable),
        (grpc.StatusCode.FAILED_PRECONDITION, PeerDiffers),
        (grpc.StatusCode.INVALID_ARGUMENT, PeerRefused),
        (grpc.StatusCode.OUT_OF_RANGE, PeerRefused),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, PeerBusy),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlinePassed),
        (grpc.StatusCode.INTERNAL, PeerFailed),
        (grpc.StatusCode.UNKNOWN, PeerFailed),
    ],
)
async def test_a_status_becomes_an_error_with_its_sentence(
    tmp_path: Path, code: grpc.StatusCode, error: type[PeerError]
) -> None:
    target = f"unix:{tmp_path}/peer.sock"
    server = await serve(target, always(code, "because of this"))
    try:
        with pytest.raises(error, match="because of this") as raised:
            await call(target)
        assert type(raised.value) is error
    finally:
        await server.stop(None)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_a_status_of_a_server_that_is_none_of_ours_says_nothing_of_the_request(
    tmp_path: Path, code: grpc.StatusCode
) -> None:
    target = f"unix:{tmp_path}/peer.sock"
    server = await serve(target, always(code, "because of this", ours=False))
    try:
        with pytest.raises(PeerError, match="because of this") as raised:
            await call(target)
        late = code is grpc.StatusCode.DEADLINE_EXCEEDED  # grpc itself says so, too, of a call whose time is over
        assert type(raised.value) is (DeadlinePassed if late else PeerUnusable)
    finally:
        await server.stop(None)


async def test_a_method_that_a_server_lacks_makes_it_unusable(tmp_path: Path) -> None:
    target = f"unix:{tmp_path}/peer.sock"
    server = await serve(target, lambda server: None)
    try:
        with pytest.raises(PeerUnusable):
            await call(target)
    finally:
        await server.stop(None)


async def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(PeerUnavailable):
        await call(f"unix:{tmp_path}/nobody.sock")


async def test_an_address_that_cannot_be_had_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CannotListen, match="can't listen at unix:"):
        await serve(f"unix:{tmp_path}/no/such/directory/peer.sock", lambda server: None)


async def test_a_socket_file_left_by_a_dead_process_is_no_obstacle_and_none_is_left(tmp_path: Path) -> None:
    leave_a_socket(tmp_path / "peer.sock")
    target = f"unix:{tmp_path}/peer.sock"
    server = await serve(target, always(grpc.StatusCode.UNAVAILABLE, "as asked"))
    with pytest.raises(PeerUnavailable, match="as asked"):
        await call(target)
    await server.stop(None)
    assert sockets_in(tmp_path) == []


def leave_a_socket(path: Path) -> None:
    """What a process that was killed leaves behind."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def sockets_in(directory: Path) -> list[Path]:
    return list(directory.glob("*.sock"))


class Cable:
    """Between a caller and a server; cut, it carries nothing any more, and neither end is told."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.whole = True
        self.address = ""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        other_reader, other_writer = await asyncio.open_connection(host, int(port))
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._carry(reader, other_writer))
                ways.create_task(self._carry(other_reader, writer))
        finally:
            for each in (writer, other_writer):
                each.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self.whole:
                writer.write(data)
        writer.transport.abort()


@asynccontextmanager
async def cable(target: str) -> AsyncIterator[Cable]:
    made = Cable(target)
    async with serving(made.connected) as made.address:
        yield made


async def test_a_peer_whose_host_vanished_in_mid_call_is_noticed_long_before_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Live after 15 s; here all times of pings are twenty times shorter."""
    shorter = [(name, value // 20 if "keepalive_time" in name or "ping_timeout" in name else value)
               for name, value in channel.COMMON]  # fmt: skip
    monkeypatch.setattr(channel, "COMMON", tuple(shorter))
    called = asyncio.Event()

    async def never(request: Empty, context: grpc.aio.ServicerContext[Empty, Empty]) -> Empty:
        called.set()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    def add(server: grpc.aio.Server) -> None:
        handler = grpc.unary_unary_rpc_method_handler(
            never, request_deserializer=Empty.FromString, response_serializer=Empty.SerializeToString
        )
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Test", {"Call": handler})])

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{probe.getsockname()[1]}"
    server = await serve(target, add)
    async with cable(target) as between:
        calling = asyncio.create_task(call(between.address, timeout_s=30.0))
        await called.wait()
        between.whole = False
        with pytest.raises(PeerUnavailable):
            await calling
    await server.stop(0)
