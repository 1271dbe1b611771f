"""A server whose socket is removed is called again, with real sockets."""

import asyncio
import shutil
import socket
from pathlib import Path

import grpc
import pytest

from services.wire.channel import open_channel
from services.wire.framed import short_address
from services.wire.pb.common_pb2 import Empty
from services.wire.pb.store_pb2 import Door
from services.wire.pb.store_pb2_grpc import StoreServicer, StoreStub, add_StoreServicer_to_server
from services.wire.served import MOST, Served
from services.wire.socket_file import SocketFile, clear_dead

WAIT_S = 20.0


class Store(StoreServicer):
    async def Enter(self, request: Empty, context: object) -> Door:  # noqa: N802 - an RPC
        return Door(socket="here")

    async def ResetCache(self, request: Empty, context: object) -> Empty:  # noqa: N802 - an RPC
        return Empty()


def served_at(target: str) -> Served:
    def make() -> grpc.aio.Server:
        server = grpc.aio.server()
        add_StoreServicer_to_server(Store(), server)
        return server

    return Served(target, make, lambda server: server.add_insecure_port(target), look_s=0.01)


async def said(caplog: pytest.LogCaptureFixture, message: str, times: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while caplog.messages.count(message) < times:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


def put_in_place(path: Path, *, listens: bool) -> socket.socket:
    """Another socket of this name."""
    other = socket.socket(socket.AF_UNIX)
    with short_address(path) as address:
        other.bind(address + ".new")
    if listens:
        other.listen()
    else:
        other.close()
    path.with_name(path.name + ".new").replace(path)
    return other


async def ask(target: str) -> str:
    async with open_channel(target) as channel:
        return (await StoreStub(channel).Enter(Empty(), timeout=WAIT_S, wait_for_ready=True)).socket


async def test_a_socket_that_is_removed_is_made_again_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "run"
    await asyncio.to_thread(directory.mkdir)
    target = f"unix:{directory}/s.sock"
    served = served_at(target)
    await served.start()
    async with open_channel(target) as before:
        assert (await StoreStub(before).Enter(Empty(), timeout=WAIT_S)).socket == "here"
        for removed in range(1, MOST + 2):
            await asyncio.to_thread(shutil.rmtree, directory)
            await asyncio.to_thread(directory.mkdir)  # as the supervisor does
            await said(caplog, "the socket was removed; it is made again", removed)
            assert await ask(target) == "here"
            if removed < MOST:
                assert (await StoreStub(before).Enter(Empty(), timeout=WAIT_S)).socket == "here"
    await served.stop(None)


async def test_a_socket_whose_directory_is_gone_waits_for_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "run"
    await asyncio.to_thread(directory.mkdir)
    target = f"unix:{directory}/s.sock"
    served = served_at(target)
    await served.start()
    await asyncio.to_thread(shutil.rmtree, directory)
    await said(caplog, "the socket was removed: nothing new can connect", 1)
    await asyncio.to_thread(directory.mkdir)
    await said(caplog, "the socket was removed; it is made again", 1)
    assert await ask(target) == "here"
    await served.stop(None)
    assert caplog.messages == [
        "the socket was removed: nothing new can connect",
        "the socket was removed; it is made again",
    ]


async def test_a_dead_socket_put_in_its_place_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As after a directory was copied, removed, and put back."""
    target = f"unix:{tmp_path}/s.sock"
    served = served_at(target)
    await served.start()
    await asyncio.to_thread(put_in_place, tmp_path / "s.sock", listens=False)
    await said(caplog, "the socket was removed; it is made again", 1)
    assert await ask(target) == "here"
    await served.stop(None)


def test_a_socket_at_which_another_process_listens_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with put_in_place(path, listens=True) as first:
        file = SocketFile(path)
        assert not file.is_lost()
        with put_in_place(path, listens=True) as second:
            assert not file.is_lost()
            clear_dead(path)
            assert path.is_socket()
            second.close()
            assert file.is_lost()
            clear_dead(path)
            assert not path.exists()
        first.close()


async def test_no_attempt_is_made_where_there_is_no_directory_to_listen_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Since gRPC writes a line of its own for each."""
    directory = tmp_path / "run"
    await asyncio.to_thread(directory.mkdir)
    served = served_at(f"unix:{directory}/s.sock")
    await served.start()
    await asyncio.to_thread(shutil.rmtree, directory)
    await asyncio.to_thread(directory.touch)
    await said(caplog, "the socket was removed: nothing new can connect", 1)
    await asyncio.sleep(0.1)  # ten looks more
    await served.stop(None)
    assert "add_port" not in capfd.readouterr().err
