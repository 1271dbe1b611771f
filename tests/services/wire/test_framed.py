"""Messages over a Unix socket arrive whole, in order, within bounds; and who breaks the rules is told apart."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.wire import framed
from services.wire.errors import CannotListen, WireError
from services.wire.framed import MESSAGE_BYTES, UNSENT_BYTES, Framed, connect, listen
from services.wire.pb.store_pb2 import Allocate, PushEnd, ToStore

PATIENCE_S = 10.0


@dataclass
class End:
    """One end of a connection, and what came of it. stops_after: it pauses once it has heard so many."""

    stops_after: int | None = None
    heard: list[ToStore] = field(default_factory=list)
    errors: list[WireError] = field(default_factory=list)
    losses: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.connection = Framed(ToStore, heard=self._hear, broken=self._break, lost=self._lose)

    def _hear(self, message: ToStore) -> None:
        self.heard.append(message)
        if len(self.heard) == self.stops_after:
            self.connection.pause()
        if message.WhichOneof("kind") == "push_end":
            raise WireError("not here")
        self.changed.set()

    def _break(self, error: WireError) -> None:
        self.errors.append(error)
        self.changed.set()

    def _lose(self) -> None:
        self.losses += 1
        self.changed.set()

    async def until(self, *, heard: int = 0, errors: int = 0, losses: int = 0) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.heard) < heard or len(self.errors) < errors or self.losses < losses:
                self.changed.clear()
                await self.changed.wait()

    def say_raw(self, data: bytes) -> None:
        assert self.connection._transport is not None
        self.connection._transport.write(data)


@asynccontextmanager
async def ends(directory: Path, *, stops_after: int | None = None) -> AsyncIterator[tuple[End, End]]:
    """A caller and who is called."""
    caller, called = End(), End(stops_after)
    listener = await listen(directory / "door", lambda: called.connection)
    try:
        await connect(directory / "door", caller.connection)
        yield caller, called
    finally:
        listener.close()
        for end in (caller, called):
            end.connection.abort()
            await end.until(losses=1)


def message(number: int, size: int = 0) -> ToStore:
    return ToStore(call=number, allocate=Allocate(names=bytes(size)))


async def test_messages_of_any_size_arrive_in_order(tmp_path: Path) -> None:
    sizes = [0, 1, 100_000, 0, 5_000_000, 16, 0]
    async with ends(tmp_path) as (caller, called):
        for number, size in enumerate(sizes):
            caller.connection.send(message(number, size))
        await called.until(heard=len(sizes))
        assert [(each.call, len(each.allocate.names)) for each in called.heard] == list(enumerate(sizes))
        called.connection.send(message(7))
        await caller.until(heard=1)


async def test_a_message_may_come_byte_by_byte() -> None:
    end = End()
    body = message(3, 300).SerializeToString()
    for byte in len(body).to_bytes(4, "little") + body:
        assert not end.heard
        end.connection.data_received(bytes([byte]))
    assert end.heard == [message(3, 300)]


async def test_nothing_is_heard_during_a_pause_and_all_of_it_after(tmp_path: Path) -> None:
    async with ends(tmp_path, stops_after=2) as (caller, called):
        for number in range(5):
            caller.connection.send(message(number))
        await called.until(heard=2)
        await asyncio.sleep(0)
        assert len(called.heard) == 2
        called.connection.resume()
        await called.until(heard=5)
        assert [each.call for each in called.heard] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ((MESSAGE_BYTES + 1).to_bytes(4, "little"), "longer than any"),
        ((3).to_bytes(4, "little") + b"\xff\xff\xff", "no message"),
    ],
)
async def test_bytes_that_are_no_message_break_it(tmp_path: Path, data: bytes, sentence: str) -> None:
    async with ends(tmp_path) as (caller, called):
        caller.say_raw(data)
        await called.until(errors=1)
        assert sentence in str(called.errors[0])


async def test_after_what_breaks_the_rules_nothing_more_is_heard(tmp_path: Path) -> None:
    async with ends(tmp_path) as (caller, called):
        caller.connection.send(ToStore(push_end=PushEnd(push=1)))
        caller.connection.send(message(1))
        await called.until(errors=1)
        called.connection.close()
        await caller.until(losses=1)
        assert len(called.heard) == 1


async def test_last_words_are_heard_before_the_end(tmp_path: Path) -> None:
    async with ends(tmp_path) as (caller, called):
        caller.connection.send(message(0))
        await called.until(heard=1)
        called.connection.send(message(1, 3_000_000))
        called.connection.close()
        await caller.until(losses=1)
        assert [each.call for each in caller.heard] == [1]


async def test_who_does_not_read_is_noticed_and_last_words_do_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framed, "LAST_WORDS_S", 0.01)
    async with ends(tmp_path) as (caller, called):
        called.connection.pause()
        assert caller.connection.send(message(0, UNSENT_BYTES // 2))
        assert not caller.connection.send(message(1, UNSENT_BYTES))
        caller.connection.close()
        await caller.until(losses=1)


async def test_a_path_too_long_for_a_sockets_address_will_do_and_only_its_owner_gets_in(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    async with ends(directory) as (caller, called):
        assert (directory / "door").stat().st_mode & 0o777 == 0o600
        caller.connection.send(message(1))
        await called.until(heard=1)


async def test_where_there_is_no_room_for_a_door_nobody_listens(tmp_path: Path) -> None:
    (tmp_path / "door").touch()
    with pytest.raises(CannotListen, match="door"):
        await listen(tmp_path / "door", lambda: End().connection)
    with pytest.raises(OSError, match=r"refused|No such"):
        await connect(tmp_path / "door", End().connection)


@pytest.mark.parametrize("leave", [Framed.abort, Framed.close], ids=["abort", "close"])
async def test_who_is_given_up_before_it_was_accepted_is_not_kept(
    tmp_path: Path, leave: Callable[[Framed[ToStore]], None]
) -> None:
    server_end, client_end = End(), End()

    def made() -> Framed[ToStore]:
        leave(server_end.connection)
        return server_end.connection

    listener = await listen(tmp_path / "door.sock", made)
    with closing(listener):
        await connect(tmp_path / "door.sock", client_end.connection)
        await client_end.until(losses=1)
        await server_end.until(losses=1)


@pytest.mark.parametrize("turns", range(5))
async def test_who_is_just_being_accepted_when_listening_ends_is_not_kept(tmp_path: Path, turns: int) -> None:
    """After each number of the loop's turns: a connection that has no transport yet would be nobody's."""
    accepted: list[Framed[ToStore]] = []
    over = False

    def made() -> Framed[ToStore]:
        accepted.append(End().connection)
        if over:
            accepted[-1].abort()
        return accepted[-1]

    loop = asyncio.get_running_loop()
    listener = await listen(tmp_path / "door.sock", made)
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        client.connect(str(tmp_path / "door.sock"))
        for _ in range(turns):
            await asyncio.sleep(0)
        over = True
        listener.close()
        for connection in accepted:
            connection.abort()
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionResetError):
                assert await loop.sock_recv(client, 1) == b""
