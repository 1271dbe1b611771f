"""Reach conductors and workers: the gateway's side of every gRPC call.

Conductors are asked in one fixed order, and the first that answers decides. Streams
are context managers: leaving the block, in whatever way, ends the call on the other
side. Channels are made once for each address and kept.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import grpc

from scheduler.vocabulary import Ask, Measured, Outcome, Placement, Rejection, RequestId
from services.registry.directory import Directory
from services.wire.channel import open_channel
from services.wire.cluster_codec import Cluster, cluster_from_wire
from services.wire.errors import PeerError, PeerUnavailable, WireError, rpc_errors
from services.wire.pb import common_pb2, conductor_pb2, worker_pb2
from services.wire.pb.conductor_pb2_grpc import ConductorStub
from services.wire.pb.store_pb2_grpc import StoreStub
from services.wire.pb.worker_pb2_grpc import WorkerStub
from services.wire.placement_codec import (
    answer_from_wire,
    ask_to_wire,
    begins_answer_from_wire,
    begins_to_wire,
    outcome_to_wire,
)
from services.wire.tls import Tls

if TYPE_CHECKING:  # these names exist for type checkers only
    from services.wire.pb.conductor_pb2_grpc import ConductorAsyncStub
    from services.wire.pb.worker_pb2_grpc import WorkerAsyncStub

CONDUCTOR_S = 1.0
"""A conductor answers within microseconds; one that has not in this time is passed over."""

RESET_S = 10.0
MOST_WORKERS = 1024
"""Workers whose channels are kept. They come and go, and each leaves an address behind."""

ResultT = TypeVar("ResultT")
EventT = TypeVar("EventT")


class Events(Generic[EventT]):
    """What comes over one stream."""

    __slots__ = ("_call",)

    def __init__(self, call: "grpc.aio.UnaryStreamCall[Any, EventT]") -> None:  # Any: whatever was asked
        self._call = call

    async def next(self) -> EventT | None:
        """The next event, None at a regular end; raises PeerError."""
        with rpc_errors():
            event = await self._call.read()
        return None if event is grpc.aio.EOF else cast(EventT, event)


class ClusterClient:
    """Everything a gateway calls. known: what a conductor said last, None until one has answered."""

    def __init__(self, conductors: Sequence[str], tls: Tls | None = None) -> None:
        self._tls = tls
        self._conductors: dict[str, tuple[grpc.aio.Channel, ConductorAsyncStub]] = {}  # in the order of asking
        self._workers: dict[str, tuple[grpc.aio.Channel, WorkerAsyncStub]] = {}  # the least recently used first
        self._background: set[asyncio.Task[None]] = set()
        self.known: Cluster | None = None
        self.reach(conductors)

    def reach(self, conductors: Sequence[str]) -> None:
        """From now on these are asked, in this order; whoever is not among them is asked no more."""
        before = self._conductors
        self._conductors = {
            target: before[target] if target in before else self._connected_conductor(target) for target in conductors
        }
        for target in before.keys() - self._conductors.keys():
            self._in_background(before[target][0].close(grace=None), "close a channel")

    async def follow(self, directory: Directory) -> None:
        """Ask the conductors that it knows, as they come and go, until cancelled."""
        while True:
            change = directory.change
            self.reach(directory.conductors)
            await change.wait()

    async def place(self, ask: Ask) -> Placement | Rejection:
        """The first conductor's answer; PeerUnavailable where none has one."""
        wire = ask_to_wire(ask)
        return await self._first(lambda stub: _placed(stub.Place(wire, timeout=CONDUCTOR_S)))

    async def decode_begins(self, request: RequestId) -> Rejection | None:
        """Whether the first conductor that answers takes its placement back; PeerUnavailable where none answers."""
        wire = begins_to_wire(request)
        return await self._first(lambda stub: _begun(request, stub.DecodeBegins(wire, timeout=CONDUCTOR_S)))

    async def describe(self) -> Cluster:
        """What the first conductor that answers believes; PeerUnavailable where none does."""
        self.known = await self._first(_described)
        return self.known

    async def describe_all(self) -> list[Cluster]:
        """Of every conductor that answers, in their order."""
        answers = await asyncio.gather(
            *(_described(stub) for _, stub in self._conductors.values()), return_exceptions=True
        )
        clusters = [answer for answer in answers if isinstance(answer, Cluster)]
        if clusters:
            self.known = clusters[0]
        return clusters

    def tell(self, request: RequestId, outcome: Outcome, measured: Measured | None = None) -> None:
        """Tell every conductor, without waiting: a report that is lost is made up for by expiry."""
        self._in_background(self._tell(request, outcome, measured), f"outcome of {request}")

    @asynccontextmanager
    async def prefill(
        self, address: str, request: worker_pb2.PrefillRequest, *, timeout_s: float
    ) -> AsyncIterator[Events[worker_pb2.PrefillEvent]]:
        """The events of a prefill. Reading them raises PeerError."""
        call = self._worker(address).Prefill(request, timeout=timeout_s)
        try:
            yield Events(call)
        finally:
            call.cancel()

    @asynccontextmanager
    async def decode(
        self, address: str, request: worker_pb2.DecodeRequest, *, timeout_s: float
    ) -> AsyncIterator[Events[worker_pb2.DecodeEvent]]:
        """The events of a decode. Reading them raises PeerError."""
        call = self._worker(address).Decode(request, timeout=timeout_s)
        try:
            yield Events(call)
        finally:
            call.cancel()

    async def reset_caches(self) -> None:
        """Forget every cached prefix, first on the workers, which could publish theirs again, then in the stores.

        Raises PeerError, and WireError, where one of them did not.
        """
        cluster = await self.describe()
        empty = common_pb2.Empty()
        await _all(self._worker(each.address).ResetCache(empty, timeout=RESET_S) for each in cluster.workers)
        for store in cluster.stores:
            async with open_channel(store.address, self._tls) as channel:
                await _all([StoreStub(channel).ResetCache(empty, timeout=RESET_S)])

    async def close(self) -> None:
        """Waits for the outcomes that are still being told, then closes every channel."""
        if self._background:
            await asyncio.wait(self._background)
        for channel, _ in [*self._conductors.values(), *self._workers.values()]:
            await channel.close()

    async def _first(self, ask: Callable[["ConductorAsyncStub"], Awaitable[ResultT]]) -> ResultT:
        reasons = []
        for _, stub in self._conductors.values():
            try:
                return await ask(stub)
            except (PeerError, WireError) as error:
                reasons.append(str(error))
        if not reasons:
            raise PeerUnavailable("no conductor answers: none is known yet")
        raise PeerUnavailable("no conductor answers: " + "; ".join(reasons))

    async def _tell(self, request: RequestId, outcome: Outcome, measured: Measured | None) -> None:
        wire = outcome_to_wire(request, outcome, measured)
        calls = (stub.ReportOutcome(wire, timeout=CONDUCTOR_S) for _, stub in self._conductors.values())
        await asyncio.gather(*calls, return_exceptions=True)

    def _worker(self, address: str) -> "WorkerAsyncStub":
        channel, stub = self._workers.pop(address) if address in self._workers else self._connected(address)
        self._workers[address] = channel, stub
        if len(self._workers) > MOST_WORKERS:
            eldest, _ = self._workers.pop(next(iter(self._workers)))
            self._in_background(eldest.close(grace=None), "close a channel")
        return stub

    def _connected(self, address: str) -> "tuple[grpc.aio.Channel, WorkerAsyncStub]":
        channel = open_channel(address, self._tls)
        return channel, WorkerStub(channel)

    def _connected_conductor(self, target: str) -> "tuple[grpc.aio.Channel, ConductorAsyncStub]":
        channel = open_channel(target, self._tls)
        return channel, ConductorStub(channel)

    def _in_background(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _placed(call: Awaitable[conductor_pb2.PlaceAnswer]) -> Placement | Rejection:
    with rpc_errors():
        return answer_from_wire(await call)


async def _begun(request: RequestId, call: Awaitable[conductor_pb2.BeginsAnswer]) -> Rejection | None:
    with rpc_errors():
        return begins_answer_from_wire(request, await call)


async def _described(stub: "ConductorAsyncStub") -> Cluster:
    with rpc_errors():
        return cluster_from_wire(await stub.Describe(common_pb2.Empty(), timeout=CONDUCTOR_S))


async def _all(calls: Iterable[Awaitable[object]]) -> None:
    with rpc_errors():
        await asyncio.gather(*calls)
