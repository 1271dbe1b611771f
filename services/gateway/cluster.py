"""Reach conductors and workers: the gateway's side of every gRPC call.

Which conductor is asked is told in conductors.py. Streams are context managers: leaving
the block, in whatever way, ends the call on the other side. Channels are made once for
each address and kept.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import grpc

from scheduler.vocabulary import (
    Ask,
    Measured,
    Outcome,
    Placement,
    Rejection,
    RejectionCode,
    RequestId,
    Target,
    WorkerId,
)
from services.gateway.breakers import Breakers, Unusable
from services.gateway.conductors import CONDUCTOR_S, Conductors, described
from services.registry.directory import Directory
from services.runtime.logs import fields
from services.wire.channel import open_channel
from services.wire.cluster_codec import Cluster
from services.wire.errors import PeerUnusable, answer_to, named, rpc_errors
from services.wire.greeting import Greeting
from services.wire.pb import common_pb2, conductor_pb2, worker_pb2
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
    DecodeCall = grpc.aio.StreamStreamCall[worker_pb2.DecodeCall, worker_pb2.DecodeEvent]
    from services.wire.pb.worker_pb2_grpc import WorkerAsyncStub

RESET_S = 10.0
GREETING_S = 5.0
"""For a worker to send its greeting, which it does before it looks at the request; one that hangs does not."""

ACCOUNT_S = 2.0
MOST_WORKERS = 1024
"""Workers whose channels are kept. They come and go, and each leaves an address behind."""

log = logging.getLogger(__name__)

Met = Callable[["PeerUnusable | None"], None]
EventT = TypeVar("EventT")
RequestT = TypeVar("RequestT")


class Events(Generic[EventT]):
    """What comes over one stream. greeting: what its worker has to say first. met: told once whether it did."""

    __slots__ = ("_call", "_greeted", "_greeting", "_met")

    def __init__(
        self,
        call: "grpc.aio.UnaryStreamCall[RequestT, EventT] | grpc.aio.StreamStreamCall[RequestT, EventT]",
        greeting: Greeting,
        met: "Met",
    ) -> None:
        self._call = call
        self._greeting = greeting
        self._met = met
        self._greeted = False

    async def next(self) -> EventT | None:
        """The next event, None at a regular end; raises PeerError."""
        try:
            if not self._greeted:
                await self._meet()
            event = await self._call.read()
        except grpc.aio.AioRpcError as error:
            trouble = named(error, greeted=self._greeted)
            if isinstance(trouble, PeerUnusable):
                self._met(trouble)
            raise trouble from error
        except PeerUnusable as trouble:
            self._met(trouble)
            raise
        return None if event is grpc.aio.EOF else cast(EventT, event)

    async def _meet(self) -> None:
        """Read the greeting before anything else that comes."""
        try:
            async with asyncio.timeout(GREETING_S):
                metadata = await self._call.initial_metadata()
                if not metadata:
                    await self._call.read()  # raises where the call has failed at once; else what comes is not believed
        except TimeoutError:
            raise PeerUnusable(f"it has not answered a call within {GREETING_S:g} s") from None
        self._greeting.check(metadata)
        self._greeted = True
        self._met(None)


class Decoding(Events[worker_pb2.DecodeEvent]):
    """A decode that was asked for."""

    __slots__ = ("_first",)

    def __init__(self, call: "DecodeCall", greeting: Greeting, met: "Met", first: asyncio.Future[int]) -> None:
        super().__init__(call, greeting, met)
        self._first = first

    def begin(self, token: int) -> None:
        """What was handed over goes on from this token."""
        self._first.set_result(token)


class ClusterClient:
    """Everything a gateway calls. known: what a conductor said last, None until one has answered.

    conductor_s: in which a conductor is to answer.
    """

    def __init__(self, conductors: Sequence[str], tls: Tls | None = None, *, conductor_s: float = CONDUCTOR_S) -> None:
        self._tls = tls
        self._conductors = Conductors(conductors, tls, within_s=conductor_s)
        self._clock = asyncio.get_running_loop().time
        self._breakers = Breakers()
        self._workers: dict[str, tuple[grpc.aio.Channel, WorkerAsyncStub]] = {}  # the least recently used first
        self._background: set[asyncio.Task[None]] = set()
        self.known: Cluster | None = None

    async def follow(self, directory: Directory) -> None:
        """Ask the conductors that it knows, as they come and go, until cancelled."""
        while True:
            change = directory.change
            await self._conductors.reach(directory.conductors)
            await change.wait()

    async def place(self, ask: Ask) -> Placement | Rejection:
        """The first conductor's answer that knows of workers; PeerUnavailable where none has one."""
        return await self._conductors.first(
            lambda stub, within_s: _placed(stub.Place(ask_to_wire(ask, within_s=within_s), timeout=within_s)),
            decides=_knows_of_workers,
        )

    async def decode_begins(self, request: RequestId) -> Rejection | None:
        """Whether the first conductor that answers takes its placement back; PeerUnavailable where none answers."""
        wire = begins_to_wire(request)
        return await self._conductors.first(
            lambda stub, within_s: _begun(request, stub.DecodeBegins(wire, timeout=within_s))
        )

    async def describe(self) -> Cluster:
        """What the first conductor that knows of workers believes, else the first; PeerUnavailable without any."""
        self.known = await self._conductors.first(described, decides=lambda cluster: bool(cluster.workers))
        return self.known

    async def describe_all(self) -> list[Cluster]:
        """Of every conductor that answers, in their order."""
        answers = await self._conductors.all(described)
        clusters = [answer for answer in answers if isinstance(answer, Cluster)]
        if clusters:
            self.known = clusters[0]
        return clusters

    def tell(self, request: RequestId, outcome: Outcome, measured: Measured | None = None) -> None:
        """Tell every conductor, without waiting: a report that is lost is made up for by expiry."""
        self._in_background(self._tell(request, outcome, measured), f"outcome of {request}")

    async def account(self, address: str, told: worker_pb2.AccountRequest) -> None:
        """What a worker's metrics are to count. Raises PeerError."""
        with rpc_errors():
            await self._worker(address).Account(told, timeout=ACCOUNT_S)

    @asynccontextmanager
    async def prefill(
        self, target: Target, request: worker_pb2.PrefillRequest, *, fingerprint: bytes, timeout_s: float
    ) -> AsyncIterator[Events[worker_pb2.PrefillEvent]]:
        """The events of a prefill by a worker of this deployment. Reading them raises PeerError."""
        call = self._worker(target.address).Prefill(request, timeout=timeout_s)
        try:
            yield Events(call, Greeting(target.worker, fingerprint.hex()), partial(self._met, target))
        finally:
            call.cancel()

    @asynccontextmanager
    async def decode(
        self, target: Target, request: worker_pb2.DecodeRequest, *, fingerprint: bytes, timeout_s: float
    ) -> AsyncIterator[Decoding]:
        """A decode that goes on until the block is left. Opening it waits for nothing; reading it raises PeerError."""
        first: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        call = self._worker(target.address).Decode(_said(request, first), timeout=timeout_s)
        try:
            greeting = Greeting(target.worker, fingerprint.hex())
            yield Decoding(call, greeting, partial(self._met, target), first)
        finally:
            call.cancel()
            first.cancel()  # so that whoever waits for it in order to send it is gone, too

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
        await self._conductors.close()
        for channel, _ in self._workers.values():
            await channel.close()

    def left_out(self) -> frozenset[WorkerId]:
        """Workers that could not be used lately, and are not to be tried just now."""
        return self._breakers.left_out(now=self._clock())

    def unusable(self) -> list[tuple[Unusable, float]]:
        """Workers that could not be used when last tried, and for how many seconds that has lasted."""
        now = self._clock()
        return [(known, now - known.since) for known in self._breakers.unusable(now=now)]

    def _met(self, target: Target, trouble: PeerUnusable | None) -> None:
        """A call's first answer: whether its worker can be used, and if not, why. Told in one line for each reason."""
        about = {"worker": target.worker, "address": target.address}
        if trouble is None:
            if self._breakers.worked(target.worker):
                log.info("a worker can be used again", extra=fields(**about))
        elif self._breakers.failed(target.worker, str(trouble), now=self._clock()):
            log.warning("a worker can't be used", extra=fields(**about, because=str(trouble)))

    async def _tell(self, request: RequestId, outcome: Outcome, measured: Measured | None) -> None:
        wire = outcome_to_wire(request, outcome, measured)
        await self._conductors.all(lambda stub, within_s: stub.ReportOutcome(wire, timeout=within_s))

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

    def _in_background(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _said(request: worker_pb2.DecodeRequest, first: Awaitable[int]) -> AsyncIterator[worker_pb2.DecodeCall]:
    yield worker_pb2.DecodeCall(request=request)
    if request.handed_over:
        yield worker_pb2.DecodeCall(first_token=await first)


async def _placed(call: Awaitable[conductor_pb2.PlaceAnswer]) -> Placement | Rejection:
    return answer_from_wire(await answer_to(call))


async def _begun(request: RequestId, call: Awaitable[conductor_pb2.BeginsAnswer]) -> Rejection | None:
    return begins_answer_from_wire(request, await answer_to(call))


def _knows_of_workers(answer: Placement | Rejection) -> bool:
    """Else it has just started, or is cut off from them, and another one may know better."""
    return isinstance(answer, Placement) or answer.code is not RejectionCode.UNAVAILABLE


async def _all(calls: Iterable[Awaitable[object]]) -> None:
    with rpc_errors():
        await asyncio.gather(*calls)
