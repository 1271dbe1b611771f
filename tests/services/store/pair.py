"""Two stores and a worker's session with each, over real sockets, in one process."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash
from prometheus_client import generate_latest

from engine.toy import ToyEngine
from kvstore.layout import KvLayout
from kvstore.names import BlockName, child_name, root_name
from kvstore.vocabulary import SlotRef
from services.store.main import serve_store
from services.store.node import StoreNode
from services.store.peers import StorePeers
from services.store.settings import StoreSettings
from services.wire import store_codec
from services.wire.codec import names_to_wire
from services.wire.pb import common_pb2, store_pb2
from services.worker.session_lock import SessionLock
from tests.services.rig import PATIENCE_S, Rig, Store, first, rig
from tests.services.store.test_sessions import Speaker, hello

ENGINE = ToyEngine(8, block_tokens=512)  # 4 layers of 4 KiB, one a little longer
LAYOUT: KvLayout = ENGINE.layout
HELD, WRITE, REFUSED = store_pb2.GRANT_HELD, store_pb2.GRANT_WRITE, store_pb2.GRANT_REFUSED


def names(count: int, story: str = "a") -> list[BlockName]:
    """A prefix of its own for each story."""
    chain, parent = [], root_name(story.encode())
    for number in range(count):
        parent = child_name(parent, [number])
        chain.append(parent)
    return chain


@dataclass
class Granted:
    """What a store answers: a grant, and a slot, for each name."""

    grants: "list[store_pb2.Grant.ValueType]"
    slots: list[SlotRef]


@dataclass
class Host:
    """A store and a worker of its host."""

    store: Store
    speaker: Speaker
    lock: SessionLock
    answers: dict[int, list[store_pb2.FromStore]] = field(default_factory=dict)

    @property
    def node(self) -> StoreNode:
        return self.store.node

    @property
    def target(self) -> common_pb2.StoreTarget:
        return common_pb2.StoreTarget(store=self.node.name, address=self.node.transfer_address)

    def leave(self) -> None:
        """The worker dies."""
        self.speaker.leave()
        self.lock.release()

    def layer(self, slot: int, layer: int) -> memoryview:
        start = slot * LAYOUT.slot_bytes + LAYOUT.layer_offsets[layer]
        return self.node.arena.view[start : start + LAYOUT.layer_bytes[layer]]

    def block(self, slot: int) -> bytes:
        return bytes(self.node.arena.view[slot * LAYOUT.slot_bytes :][: LAYOUT.block_bytes])

    def write(self, ref: SlotRef, layers: range = range(LAYOUT.layers)) -> None:
        for layer in layers:
            self.layer(ref.slot, layer)[:] = os.urandom(LAYOUT.layer_bytes[layer])

    def checksum(self, ref: SlotRef) -> int:
        return xxhash.xxh3_64_intdigest(self.block(ref.slot))

    async def allocate(self, wanted: Sequence[BlockName], **more: Any) -> Granted:
        answer = await self.ask(allocate=store_pb2.Allocate(names=names_to_wire(wanted), **more))
        return Granted(list(answer.allocated.grants), store_codec.refs_from_wire(answer.allocated.slots))

    async def seal(self, refs: Sequence[SlotRef]) -> list[bool]:
        seal = store_pb2.Seal(slots=store_codec.refs_to_wire(refs), checksums=map(self.checksum, refs))
        return list((await self.ask(seal=seal)).sealed.sealed)

    async def put(self, wanted: Sequence[BlockName], **more: Any) -> list[bytes]:
        """Write and seal all of these; what is in them."""
        allocated = await self.allocate(wanted, **more)
        assert set(allocated.grants) == {WRITE}
        for ref in allocated.slots:
            self.write(ref)
        assert all(await self.seal(allocated.slots))
        return [self.block(ref.slot) for ref in allocated.slots]

    async def push(self, to: "Host", wanted: Sequence[BlockName], **more: Any) -> tuple[int, list[int]]:
        """Its call, and what the other store will take."""
        push = store_pb2.Push(**{"target": to.target, **more}, names=names_to_wire(wanted))
        call = await self.speaker.say(push=push)
        return call, list((await self.hear(call)).pushed.grants)

    async def push_end(self, call: int) -> None:
        await self.speaker.say(push_end=store_pb2.PushEnd(push=call))

    async def wrote(self, refs: Sequence[SlotRef], layer: int) -> None:
        wrote = store_pb2.Wrote(slots=store_codec.refs_to_wire(refs), first_layer=layer, layers=1)
        await self.speaker.say(wrote=wrote)

    async def acquire(
        self,
        wanted: Sequence[BlockName],
        *,
        deadline_s: float = 5.0,
        source: "Host | common_pb2.StoreTarget | None" = None,
        **more: Any,
    ) -> list[bytes]:
        """What is in the longest prefix that can be had, leased and released again."""
        ask = store_pb2.Acquire(names=names_to_wire(wanted), deadline_s=deadline_s, **more)
        if source is not None:
            ask.source.CopyFrom(source.target if isinstance(source, Host) else source)
        call = await self.speaker.say(acquire=ask)
        blocks: list[bytes] = []
        done = False
        while not done:
            part = (await self.hear(call)).acquired
            leases = store_codec.leases_from_wire(part)
            for lease in leases:
                block = self.block(lease.slot)
                assert xxhash.xxh3_64_intdigest(block) == lease.checksum, "a block that is not whole was served"
                blocks.append(block)
            await self.speaker.say(release=store_pb2.Release(slots=store_codec.refs_to_wire(leases)))
            done = part.done
        return blocks

    async def ask(self, **kind: Any) -> store_pb2.FromStore:
        return await self.hear(await self.speaker.say(**kind))

    async def hear(self, call: int) -> store_pb2.FromStore:
        """The next answer to this call; those to others are kept for them."""
        while not self.answers.get(call):
            message = await self.speaker.hear()
            self.answers.setdefault(message.call, []).append(message)
        return self.answers[call].pop(0)

    def nothing_under_way(self) -> bool:
        return not any(self.metric("bytes_in_flight", direction=way) for way in ("received", "sent"))

    async def received(self, count: int) -> None:
        """Until that many bytes of blocks have come from the other store."""
        async with asyncio.timeout(PATIENCE_S):
            while self.metric("bytes_total", direction="received") != count:  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0.002)

    def failures(self) -> float:
        """Of transfers, for whatever reason."""
        assert isinstance(self.node.peers, StorePeers)
        (family,) = [it for it in self.node.peers.metrics.registry.collect() if it.name.endswith("transfer_failures")]
        return sum(sample.value for sample in family.samples if sample.name.endswith("_total"))

    def metric(self, name: str, **labels: str) -> float:
        wanted = "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else ""
        assert isinstance(self.node.peers, StorePeers)
        for line in generate_latest(self.node.peers.metrics.registry).decode().splitlines():
            if line.startswith(f"moonpool_store_transfer_{name}{wanted} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"there is no metric {name}{wanted}")


@dataclass
class Pair:
    rig: Rig
    here: Host
    there: Host

    @asynccontextmanager
    async def another_worker(self) -> AsyncIterator[Host]:
        """Of the host ``here``."""
        async with AsyncExitStack() as stack:
            yield await attach(stack, self.rig, self.here.store, "another")

    @asynccontextmanager
    async def attached(self, store: Store, worker: str) -> AsyncIterator[Host]:
        """A worker's session with one more store."""
        async with AsyncExitStack() as stack:
            yield await attach(stack, self.rig, store, worker)

    async def at_rest(self) -> None:
        """Neither store has anything leased or half-written, for anybody."""
        for host in (self.here, self.there):
            if not host.store.task.done():
                await self.rig.until(f"{host.node.name} is at rest", host.store.at_rest)
                host.node.catalog.check()
                await self.rig.until("nothing is under way", host.nothing_under_way)


@asynccontextmanager
async def pair(
    directory: Path, *, slots: int = 64, there_slots: int | None = None, there_worker: bool = True, **settings: Any
) -> AsyncIterator[Pair]:
    """``here`` and ``there``. settings: of both stores."""
    (directory / "run").mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        it = await stack.enter_async_context(rig(directory))
        hosts = []
        for name, count in (("here", slots), ("there", there_slots or slots)):
            store = await serve(it, name, dram=count * LAYOUT.slot_bytes, **settings)
            hosts.append(await attach(stack, it, store, f"worker-{name}", greets=name == "here" or there_worker))
        made = Pair(it, *hosts)
        yield made
        for host in (made.here, made.there):
            host.leave()
        await made.at_rest()


async def serve(it: Rig, name: str, **settings: Any) -> Store:
    (it.directory / "arena").mkdir(exist_ok=True)
    given = StoreSettings(id=name, listen=it.target(name), arena_dir=it.directory / "arena", **settings)
    ready: asyncio.Future[StoreNode] = asyncio.get_running_loop().create_future()
    stopping = asyncio.Event()
    task = asyncio.create_task(serve_store(given, stopping, ready.set_result), name=name)
    store = Store(stopping, task, await first(ready, task))
    it.runs.append(store)
    return store


async def attach(stack: AsyncExitStack, it: Rig, store: Store, worker: str, *, greets: bool = True) -> Host:
    """A worker's session with it, until the stack unwinds."""
    lock = SessionLock(it.directory / "run", worker, 1)
    host = Host(store, Speaker(it.target(store.node.name), stack), lock)
    stack.callback(host.leave)
    if greets:
        await host.ask(hello=hello(ENGINE, lock, worker))
    return host


async def turns(count: int = 3) -> None:
    """Let the loop get on with what is ready."""
    for _ in range(count):
        await asyncio.sleep(0)
