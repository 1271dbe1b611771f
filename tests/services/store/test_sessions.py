"""A session with the store over a real socket: who is let in, what is answered, and what is left when it ends."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from engine.port import Engine
from engine.toy import ToyEngine
from kvstore.arena import Arena, door_of
from kvstore.layout import Identity
from kvstore.names import BlockName
from kvstore.vocabulary import SlotRef
from services.wire import store_codec
from services.wire.channel import open_channel
from services.wire.codec import identity_to_wire, layout_to_wire, names_to_wire
from services.wire.errors import PeerBusy, PeerRefused, PeerUnavailable
from services.wire.framed import UNSENT_BYTES
from services.wire.pb import store_pb2, store_pb2_grpc
from services.wire.pb.common_pb2 import Empty
from services.worker.session_lock import SessionLock
from services.worker.store_socket import StoreSocket, store_socket
from tests.services.rig import PATIENCE_S, Rig, rig, toy

NAMES = [BlockName(bytes([number]) * 16) for number in range(1, 9)]


def hello(engine: Engine, lock: SessionLock, worker: str = "worker-0", incarnation: int = 1) -> store_pb2.Hello:
    identity = Identity("toy", engine.weights, engine.dtype, engine.layout.block_tokens, engine.layout.digest)
    return store_pb2.Hello(
        worker=worker,
        incarnation=incarnation,
        identity=identity_to_wire(identity),
        layout=layout_to_wire(engine.layout),
        session_file=str(lock.path),
    )


class Speaker:
    """The worker's side of a session, message by message; connects when it first has something to say."""

    def __init__(self, target: str, stack: AsyncExitStack) -> None:
        self._target = target
        self._stack = stack
        self._heard: asyncio.Queue[store_pb2.FromStore] = asyncio.Queue()
        self._socket: StoreSocket | None = None
        self.calls = 0

    async def socket(self) -> StoreSocket:
        if self._socket is None:
            there = store_socket(self._target, within_s=PATIENCE_S, wait=True)
            self._socket = await self._stack.enter_async_context(there)
            self._socket.hear = self._heard.put_nowait
        return self._socket

    async def say(self, **kind: Any) -> int:
        self.calls += 1
        (await self.socket()).send(store_pb2.ToStore(call=self.calls, **kind))
        return self.calls

    async def hear(self) -> store_pb2.FromStore:
        """Raises what ended the session, once all that was heard is told."""
        socket = await self.socket()
        getting = asyncio.create_task(self._heard.get())
        either: list[asyncio.Future[Any]] = [getting, socket.ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
        if getting.done():
            return getting.result()
        getting.cancel()
        assert socket.ended.done(), "nothing was heard"
        socket.ended.result()
        raise AssertionError("it ends with an error")

    def leave(self) -> None:
        """As when the worker dies."""
        if self._socket is not None:
            self._socket.leave()

    async def ask(self, **kind: Any) -> store_pb2.FromStore:
        number = await self.say(**kind)
        answer = await self.hear()
        assert answer.call == number
        return answer

    async def write_blocks(self, names: list[BlockName], *, hold: bool = False) -> list[SlotRef]:
        answer = await self.ask(allocate=store_pb2.Allocate(names=names_to_wire(names), hold=hold))
        assert set(answer.allocated.grants) == {store_pb2.GRANT_WRITE}
        return store_codec.refs_from_wire(answer.allocated.slots)

    async def seal(self, slots: list[SlotRef]) -> list[bool]:
        answer = await self.ask(seal=store_pb2.Seal(slots=store_codec.refs_to_wire(slots), checksums=range(len(slots))))
        return list(answer.sealed.sealed)


def leased(message: store_pb2.FromStore) -> list[SlotRef]:
    return [lease.ref for lease in store_codec.leases_from_wire(message.acquired)]


@asynccontextmanager
async def speaking(it: Rig) -> AsyncIterator[Speaker]:
    async with AsyncExitStack() as stack:
        yield Speaker(it.target("store-0"), stack)


@pytest.fixture
def lock(tmp_path: Path) -> SessionLock:
    (tmp_path / "run").mkdir()
    return SessionLock(tmp_path / "run", "worker-0", 1)


async def test_blocks_are_written_by_one_session_and_read_by_another(tmp_path: Path, lock: SessionLock) -> None:
    async with rig(tmp_path) as it, speaking(it) as writer, speaking(it) as reader:
        store = await it.store()
        welcome = (await writer.ask(hello=hello(toy(), lock))).welcome
        assert (welcome.store, welcome.slots) == ("store-0", store.node.arena.size_bytes // welcome.slot_bytes)
        await reader.ask(hello=hello(toy(), lock, worker="worker-1"))
        slots = await writer.write_blocks(NAMES[:3])
        call = await reader.say(acquire=store_pb2.Acquire(names=names_to_wire(NAMES[:4]), deadline_s=5, handoff=True))
        assert await writer.seal(slots[:2]) == [True, True]
        part = await reader.hear()
        assert (part.call, leased(part), part.acquired.done) == (call, slots[:2], False)
        await writer.seal(slots[2:])
        last = await reader.hear()
        assert (leased(last), last.acquired.done) == (slots[2:], True), "the fourth is missing at once"
        await reader.say(release=store_pb2.Release(slots=store_codec.refs_to_wire(slots)))
        await it.until("all is released", store.at_rest)
        lock.release()


async def test_a_seal_without_a_number_is_done_and_not_answered(tmp_path: Path, lock: SessionLock) -> None:
    async with rig(tmp_path) as it, speaking(it) as worker:
        store = await it.store()
        await worker.ask(hello=hello(toy(), lock))
        slots = await worker.write_blocks(NAMES[:2])
        seal = store_pb2.Seal(slots=store_codec.refs_to_wire(slots), checksums=[1, 2])
        (await worker.socket()).send(store_pb2.ToStore(seal=seal))
        await worker.ask(allocate=store_pb2.Allocate())  # its answer is the first that is heard
        assert store.node.catalog.snapshot().sealed == 2
        lock.release()


async def test_a_wait_ends_with_its_deadline(tmp_path: Path, lock: SessionLock) -> None:
    async with rig(tmp_path) as it, speaking(it) as writer, speaking(it) as reader:
        await it.store()
        await writer.ask(hello=hello(toy(), lock))
        await reader.ask(hello=hello(toy(), lock, worker="worker-1"))
        await writer.write_blocks(NAMES[:1])
        answer = await reader.ask(
            acquire=store_pb2.Acquire(names=names_to_wire(NAMES[:1]), deadline_s=0.01, handoff=True)
        )
        assert (leased(answer), answer.acquired.done) == ([], True)
        lock.release()


async def test_workers_come_in_though_all_of_the_stores_files_were_removed(
    tmp_path: Path, lock: SessionLock, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig(tmp_path) as it, speaking(it) as writer, speaking(it) as late:
        store = await it.store()
        await writer.ask(hello=hello(toy(), lock))
        slots = await writer.write_blocks(NAMES[:2])
        store.node.arena.view[:4] = b"here"
        shutil.rmtree(store.node.arena.path.parent)
        await it.until("there is a door again", lambda: door_of(store.node.arena.path).is_socket())

        welcome = (await late.ask(hello=hello(toy(), lock, worker="worker-1"))).welcome
        with closing(Arena.open(Path(welcome.arena))) as arena:
            assert bytes(arena.view[:4]) == b"here"
        assert await writer.seal(slots) == [True, True], "who was there has noticed nothing"
        call = await late.say(acquire=store_pb2.Acquire(names=names_to_wire(NAMES[:2]), deadline_s=5))
        part = await late.hear()
        assert (part.call, leased(part)) == (call, slots)
        await late.say(release=store_pb2.Release(slots=store_codec.refs_to_wire(slots)))
        await it.until("all is released", store.at_rest)
        lock.release()
    messages = [record.message for record in caplog.records]
    assert messages.count("the arena's file was removed") == 1
    assert messages.count("the socket for workers was removed and is made anew") == 1


async def test_what_a_dead_worker_held_is_free_again(tmp_path: Path, lock: SessionLock) -> None:
    async with rig(tmp_path) as it:
        store = await it.store()
        async with speaking(it) as worker:
            await worker.ask(hello=hello(toy(), lock))
            slots = await worker.write_blocks(NAMES[:4], hold=True)
            await worker.seal(slots[:2])
            assert store.node.catalog.snapshot().leases == 2
            lock.release()  # as the kernel does when a process dies
        await it.until("its slots are free", store.at_rest)
        assert store.node.catalog.snapshot().sealed == 2, "what was complete stays"
        store.node.catalog.check()


async def test_what_a_living_worker_held_is_set_aside_until_it_dies(tmp_path: Path, lock: SessionLock) -> None:
    async with rig(tmp_path) as it:
        store = await it.store()
        async with speaking(it) as worker:
            await worker.ask(hello=hello(toy(), lock))
            slots = await worker.write_blocks(NAMES[:4], hold=True)
            await worker.seal(slots[:2])
        await it.until("it is set aside", lambda: store.node.catalog.snapshot().set_aside == ("worker-0",))
        counts = store.node.catalog.snapshot()
        assert (counts.writing, counts.leases) == (2, 2)
        lock.release()
        await it.until("its slots are free", store.at_rest)


async def test_a_second_process_of_the_same_name_is_kept_out_while_the_first_lives(
    tmp_path: Path, lock: SessionLock
) -> None:
    async with rig(tmp_path) as it, speaking(it) as first, speaking(it) as second, speaking(it) as third:
        await it.store()
        await first.ask(hello=hello(toy(), lock))
        with pytest.raises(PeerUnavailable, match="another process that is called worker-0"):
            await second.ask(hello=hello(toy(), lock, incarnation=2))
        lock.release()
        await third.ask(hello=hello(toy(), lock, incarnation=2))


async def test_a_second_process_is_kept_out_while_the_first_hangs_and_may_yet_write(
    tmp_path: Path, lock: SessionLock
) -> None:
    async with rig(tmp_path) as it:
        store = await it.store()
        async with speaking(it) as hung:
            await hung.ask(hello=hello(toy(), lock))
            await hung.write_blocks(NAMES[:2])
        await it.until("it is set aside", lambda: store.node.catalog.snapshot().set_aside == ("worker-0",))
        async with speaking(it) as second:
            with pytest.raises(PeerUnavailable, match="another process that is called worker-0"):
                await second.ask(hello=hello(toy(), lock, incarnation=2))
        assert store.node.catalog.snapshot().writing == 2
        async with speaking(it) as again:
            await again.ask(hello=hello(toy(), lock))
            assert store.node.catalog.snapshot().writing == 0, "it said hello again, so it has let go"
        lock.release()


async def test_a_worker_of_another_deployment_is_refused_with_what_differs(
    tmp_path: Path, lock: SessionLock, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig(tmp_path) as it, speaking(it) as first, speaking(it) as second:
        await it.store()
        await first.ask(hello=hello(toy(), lock))
        with pytest.raises(PeerRefused, match=r"model weights .* instead of"):
            await second.ask(hello=hello(toy(seed=1), lock, worker="worker-1"))
        lock.release()
    (away,) = (record for record in caplog.records if record.message == "turned a process away")
    said = vars(away)["fields"]
    assert said["process"] == "worker-1", "in the store's log, too"
    assert "model weights" in said["reason"]


async def test_whoever_breaks_the_rules_is_refused(tmp_path: Path, lock: SessionLock) -> None:
    wrong_layout = hello(toy(), lock)
    wrong_layout.identity.layout = "something else"
    lopsided = store_pb2.SlotRefs(slots=[0, 1], generations=[1])
    cases: list[tuple[list[dict[str, Any]], str]] = [
        ([{"release": store_pb2.Release()}], "begins with Hello"),
        ([{"hello": wrong_layout}], "a layout that is not its identity's"),
        ([{"hello": hello(toy(), lock)}, {"hello": hello(toy(), lock)}], "hello is nothing to say"),
        ([{"hello": hello(toy(), lock)}, {"allocate": store_pb2.Allocate(names=b"x")}], "16 bytes each"),
        ([{"hello": hello(toy(), lock)}, {"seal": store_pb2.Seal(checksums=[1])}], "0 slots to seal"),
        ([{"hello": hello(toy(), lock)}, {"seal": store_pb2.Seal(slots=lopsided)}], "2 slots came with 1 gen"),
        ([{"hello": hello(toy(), lock)}, {"release": store_pb2.Release(slots=lopsided)}], "2 slots came with 1 gen"),
        ([{"hello": hello(toy(), lock)}, {"discard": store_pb2.Discard(slots=lopsided)}], "2 slots came with 1 gen"),
        ([{"hello": hello(toy(), lock)}, {"wrote": store_pb2.Wrote(slots=lopsided)}], "2 slots came with 1 gen"),
    ]
    async with rig(tmp_path) as it:
        store = await it.store()
        for messages, sentence in cases:
            async with speaking(it) as worker:
                for message in messages[:-1]:
                    await worker.ask(**message)
                with pytest.raises(PeerRefused, match=sentence):
                    await worker.ask(**messages[-1])
        await it.until("nobody is left", lambda: store.node.catalog.snapshot().sessions == ())
        lock.release()


async def test_columns_that_do_not_agree_end_their_session_and_nothing_else_is_lost(
    tmp_path: Path, lock: SessionLock
) -> None:
    async with rig(tmp_path) as it, speaking(it) as other:
        store = await it.store()
        await other.ask(hello=hello(toy(), lock, worker="worker-1"))
        await other.seal(await other.write_blocks(NAMES[:2], hold=True))
        async with speaking(it) as worker:
            await worker.ask(hello=hello(toy(), lock))
            await worker.ask(allocate=store_pb2.Allocate(names=names_to_wire(NAMES[:4]), hold=True))
            refs = store_pb2.SlotRefs(slots=[0, 1, 2], generations=[1, 1])
            with pytest.raises(PeerRefused, match="3 slots came with 2 generations"):
                await worker.ask(release=store_pb2.Release(slots=refs))
        counts = store.node.catalog.snapshot()
        assert (counts.sealed, counts.leases, counts.writing) == (2, 4, 2), "all as it was: the worker may live"
        assert counts.set_aside == ("worker-0",)
        async with speaking(it) as again:
            await again.ask(hello=hello(toy(), lock))
            counts = store.node.catalog.snapshot()
            assert (counts.sealed, counts.leases, counts.writing) == (2, 2, 0), "what the other holds"
            assert await again.write_blocks(NAMES[2:4])
        lock.release()


async def test_a_worker_that_does_not_read_its_answers_loses_its_session(tmp_path: Path, lock: SessionLock) -> None:
    async with rig(tmp_path) as it, speaking(it) as worker:
        store = await it.store()
        await worker.ask(hello=hello(toy(), lock))
        (await worker.socket()).connection.pause()
        (session,) = store.node.sessions
        for _ in range(UNSENT_BYTES // 65_536 + 16):  # the socket's own buffers hold some, too
            session.send(store_pb2.FromStore(sealed=store_pb2.Sealed(sealed=[True] * 65_536)))
        await it.until("it has no session", lambda: store.node.sessions == ())
        (await worker.socket()).connection.resume()
        with pytest.raises(PeerBusy, match="does not read"):
            await hear_all(worker)
        lock.release()


async def hear_all(worker: Speaker) -> None:
    while True:
        await worker.hear()


async def test_reset_forgets_what_nobody_leases(tmp_path: Path, lock: SessionLock) -> None:
    async with rig(tmp_path) as it, speaking(it) as worker:
        store = await it.store()
        await worker.ask(hello=hello(toy(), lock))
        await worker.seal(await worker.write_blocks(NAMES[:2], hold=True))
        await worker.seal(await worker.write_blocks(NAMES[4:]))
        async with open_channel(it.target("store-0")) as channel:
            await store_pb2_grpc.StoreStub(channel).ResetCache(Empty(), timeout=5)
        assert store.node.catalog.snapshot().sealed == 2
        lock.release()


async def test_an_arena_too_small_for_one_block_refuses_to_serve(tmp_path: Path, lock: SessionLock) -> None:
    async with rig(tmp_path) as it, speaking(it) as worker:
        engine = ToyEngine(8, block_tokens=1024)
        store = await it.store(dram=engine.layout.slot_bytes - 1)
        with pytest.raises(PeerUnavailable, match="larger --dram"):
            await worker.ask(hello=hello(engine, lock))
        with pytest.raises(BaseExceptionGroup) as caught:
            await asyncio.wait_for(store.task, PATIENCE_S)
        assert "larger --dram" in str(caught.value.exceptions[0])
        lock.release()
