"""A cluster that is not there, behind real gRPC: it answers as told, and remembers what it was asked."""
# ruff: noqa: N802 - methods are named after their RPCs

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from kvstore.layout import Identity
from scheduler.vocabulary import (
    Ask,
    Decision,
    Measured,
    Outcome,
    Placement,
    Profile,
    Rejection,
    RejectionCode,
    RequestId,
    Role,
    StoreId,
    StoreReport,
    StoreTarget,
    Target,
    WorkerId,
    WorkerReport,
)
from services.wire.channel import serve
from services.wire.cluster_codec import Cluster, cluster_to_wire
from services.wire.pb import (
    common_pb2,
    conductor_pb2,
    conductor_pb2_grpc,
    store_pb2,
    store_pb2_grpc,
    worker_pb2,
    worker_pb2_grpc,
)
from services.wire.placement_codec import (
    answer_to_wire,
    ask_from_wire,
    begins_answer_to_wire,
    begins_from_wire,
    measured_from_wire,
    outcome_from_wire,
)

Context = grpc.aio.ServicerContext[Any, Any]  # Any: one context type serves every call
BLOCK_TOKENS = 16
IDENTITY = Identity("toy", weights="0123", dtype="float32", block_tokens=BLOCK_TOKENS, layout="abcd")
LONGEST = 512


def letter(position: int) -> int:
    """The token at a position of an answer: the alphabet, again and again."""
    return ord("a") + position % 26


def alphabet(count: int, start: int = 0) -> str:
    return "".join(chr(letter(position)) for position in range(start, start + count))


@dataclass
class Fault:
    """What goes wrong in one call, after so many tokens of it. hold: it goes silent; else a status ends it.

    late: of a prefill, at the end of its last step.
    """

    after: int = 0
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    sentence: str = "the worker is gone"
    hold: bool = False
    late: bool = False


class FakeWorker(worker_pb2_grpc.WorkerServicer):
    """Its tokens are ``token(position)``. faults: of the next calls, one each. open: calls that are going on."""

    def __init__(self, name: str, address: str, role: Role) -> None:
        self.name, self.address, self.role = WorkerId(name), address, role
        self.identity = IDENTITY
        self.draining = False
        self.token: Callable[[int], int] = letter
        self.cached_tokens = 0
        self.portion = 1
        self.faults: list[Fault] = []
        self.prefills: list[worker_pb2.PrefillRequest] = []
        self.decodes: list[worker_pb2.DecodeRequest] = []
        self.firsts: list[int] = []
        """Tokens from which handoffs went on."""
        self.says_last_step = True
        self.deadlines_s: list[float] = []
        self.resets = 0
        self.open = 0
        self.changed = asyncio.Condition()
        self.gate = asyncio.Event()  # shut, no more tokens come
        self.gate.set()
        self.last_step = asyncio.Event()  # unset, a prefill's last step goes on
        self.last_step.set()
        self.server: grpc.aio.Server | None = None

    async def Prefill(self, request: worker_pb2.PrefillRequest, context: Context) -> None:  # type: ignore[override]
        self.prefills.append(request)
        async with self._call(context) as fault:
            if fault is not None and not fault.late:
                await _fail(fault, context)
            if self.says_last_step:
                await context.write(worker_pb2.PrefillEvent(last_step=worker_pb2.LastStep()))
            await self.last_step.wait()
            if fault is not None:
                await _fail(fault, context)
            token = self.token(0)
            stop = token in request.limits.stop_ids
            length = request.limits.max_tokens == 1
            first = worker_pb2.FirstToken(
                token=token,
                finished=stop or length,
                finish_reason="stop" if stop else "length" if length else "",
                cached_tokens=self.cached_tokens,
                queue_s=0.001,
                prefill_s=0.002,
            )
            await context.write(worker_pb2.PrefillEvent(first=first))
            if not first.finished:
                await asyncio.Event().wait()  # until the caller ends it

    async def Decode(  # type: ignore[override]
        self, calls: AsyncIterator[worker_pb2.DecodeCall], context: Context
    ) -> None:
        request = (await anext(calls)).request
        self.decodes.append(request)
        async with self._call(context) as fault:
            position = len(request.output)
            if request.handed_over:
                self.firsts.append((await anext(calls)).first_token)
                position += 1
                await _write(context, worker_pb2.DecodeEvent(confirmed=worker_pb2.Confirmed()))
            began = worker_pb2.Began(cached_tokens=self.cached_tokens, queue_s=0.001, prefill_s=0.002)
            given = 0
            while True:
                if fault is not None and given >= fault.after:
                    await _fail(fault, context)
                await self.gate.wait()
                ids, reason = self._portion(request, position)
                tokens = worker_pb2.Tokens(ids=ids)
                if given == 0 and not request.handed_over:
                    tokens.began.CopyFrom(began)
                await _write(context, worker_pb2.DecodeEvent(tokens=tokens))
                position, given = position + len(ids), given + len(ids)
                if reason:
                    finished = worker_pb2.Finished(reason=reason, cached_tokens=self.cached_tokens)
                    await _write(context, worker_pb2.DecodeEvent(finished=finished))
                    return

    async def ResetCache(self, request: common_pb2.Empty, context: Context) -> common_pb2.Empty:
        self.resets += 1
        return common_pb2.Empty()

    async def at_rest(self) -> None:
        """Returns once no call is going on."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.open == 0)

    async def called(self) -> None:
        """Returns once a call is going on."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.open > 0)

    def report(self) -> WorkerReport:
        return WorkerReport(
            worker=self.name,
            incarnation=1,
            sequence=1,
            role=self.role,
            address=self.address,
            store=StoreId("store-0"),
            pid=4711,
            identity=self.identity,
            profile=Profile((0, 0, 0), (0, 0, 0)),
            max_num_seqs=8,
            max_model_len=LONGEST,
            draining=self.draining,
            running=self.open,
            waiting=0,
            prefill_tokens_queued=0,
            kv_tokens=0,
            device_blocks_free=10,
            device_blocks_total=10,
        )

    def _portion(self, request: worker_pb2.DecodeRequest, position: int) -> tuple[list[int], str]:
        ids: list[int] = []
        while len(ids) < self.portion:
            ids.append(self.token(position + len(ids)))
            if ids[-1] in request.limits.stop_ids and position + len(ids) > request.limits.min_tokens:
                return ids, "stop"
            if position + len(ids) == request.limits.max_tokens:
                return ids, "length"
        return ids, ""

    @asynccontextmanager
    async def _call(self, context: Context) -> AsyncIterator[Fault | None]:
        self.deadlines_s.append(context.time_remaining() or 0.0)
        self.open += 1
        await self._tell()
        try:
            yield self.faults.pop(0) if self.faults else None
        finally:
            self.open -= 1
            await asyncio.shield(self._tell())

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


async def _write(context: Context, message: Message) -> None:
    await context.write(message)
    await asyncio.sleep(0)  # others have their turn


async def _fail(fault: Fault, context: Context) -> None:
    if fault.hold:
        await asyncio.Event().wait()
    await context.abort(fault.code, fault.sentence)


class FakeStore(store_pb2_grpc.StoreServicer):
    """Holds nothing. resets: how often it was told to forget it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.resets = 0
        self.tiers: dict[str, Any] = {}  # what its report says of them

    async def Enter(self, request: common_pb2.Empty, context: Context) -> store_pb2.Door:
        raise AssertionError("gateways hold no sessions with stores")

    async def ResetCache(self, request: common_pb2.Empty, context: Context) -> common_pb2.Empty:
        self.resets += 1
        return common_pb2.Empty()

    def report(self) -> StoreReport:
        return StoreReport(
            store=StoreId("store-0"),
            incarnation=1,
            sequence=1,
            address=self.address,
            pid=4712,
            identity=IDENTITY,
            slots_total=10,
            slots_free=7,
            slots_writing=1,
            slots_sealed=2,
            leases=1,
            snapshot=False,
            **self.tiers,
        )


@dataclass
class FakeConductor(conductor_pb2_grpc.ConductorServicer):
    """Places at the first worker of each role that is not excluded. rejections, predicted_ttfts_s: of the next ones.

    measured: what came with each of the outcomes. homes: the stores of the workers that have one;
    source: where whoever prefills is told to fetch. second_check: placements say that it is to be asked again;
    taken_back: its answers then; begun: who asked; deaf: it gives none. going: while it is not, it answers nothing.
    late: its calls end as those do whose time is over, without anybody's waiting for that.
    """

    workers: list[FakeWorker] = field(default_factory=list)
    stores: list[FakeStore] = field(default_factory=list)
    hand_over: bool = False
    homes: dict[WorkerId, StoreTarget] = field(default_factory=dict)
    source: StoreTarget | None = None
    identity: Identity | None = IDENTITY
    rejections: list[Rejection] = field(default_factory=list)
    predicted_ttfts_s: list[float] = field(default_factory=list)
    when_nobody: Rejection = field(default_factory=lambda: nobody())
    asks: list[Ask] = field(default_factory=list)
    outcomes: list[tuple[RequestId, Outcome]] = field(default_factory=list)
    measured: list[Measured | None] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    silent: bool = False
    second_check: bool = False
    taken_back: list[Rejection] = field(default_factory=list)
    begun: list[RequestId] = field(default_factory=list)
    deaf: bool = False
    going: asyncio.Event = field(default_factory=lambda: _going())
    late: bool = False

    async def DecodeBegins(self, request: conductor_pb2.Begins, context: Context) -> conductor_pb2.BeginsAnswer:
        self.begun.append(begins_from_wire(request))
        if self.deaf:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the conductor is gone")
        return begins_answer_to_wire(self.taken_back.pop(0) if self.taken_back else None)

    async def Place(self, request: conductor_pb2.Ask, context: Context) -> conductor_pb2.PlaceAnswer:
        ask = ask_from_wire(request)
        self.asks.append(ask)
        self.asked.set()
        await self._in_time(context)
        if self.silent:
            await asyncio.Event().wait()
        return answer_to_wire(self._place(ask))

    async def _in_time(self, context: Context) -> None:
        await self.going.wait()
        if self.late:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "too late")

    def _place(self, ask: Ask) -> Placement | Rejection:
        if self.rejections:
            return self.rejections.pop(0)
        able = [worker for worker in self.workers if worker.name not in ask.excluded]
        decoders = [worker for worker in able if worker.role.decodes]
        prefillers = [worker for worker in able if worker.role is Role.PREFILL] if self.hand_over else []
        if not decoders:
            return self.when_nobody
        prefill = self._target(prefillers[0]) if prefillers else None
        ttft_s = self.predicted_ttfts_s.pop(0) if self.predicted_ttfts_s else 0.0125
        decision = Decision.INLINE_SOONER if prefill is None else Decision.HANDED_OVER
        return Placement(
            ask.request, self._target(decoders[0]), prefill, ttft_s, 0.01, 0, decision, self.source, self.second_check
        )

    def _target(self, worker: FakeWorker) -> Target:
        return Target(worker.name, worker.address, self.homes.get(worker.name))

    async def ReportOutcome(self, request: conductor_pb2.OutcomeReport, context: Context) -> common_pb2.Empty:
        await self.going.wait()
        async with self.changed:
            self.outcomes.append(outcome_from_wire(request))
            self.measured.append(measured_from_wire(request))
            self.changed.notify_all()
        return common_pb2.Empty()

    async def Describe(self, request: common_pb2.Empty, context: Context) -> conductor_pb2.Cluster:
        await self._in_time(context)
        workers = tuple(worker.report() for worker in self.workers)
        stores = tuple(store.report() for store in self.stores)
        identity, placements = self.identity if workers else None, {"handed over": 3, "inline, sooner": 2}
        return cluster_to_wire(Cluster("conductor-0", 4710, identity, 3, workers, stores, placements))

    async def ReportWorker(self, request: conductor_pb2.WorkerReport, context: Context) -> conductor_pb2.ReportAnswer:
        raise AssertionError("fake workers report nothing")

    async def ReportStore(self, request: conductor_pb2.StoreReport, context: Context) -> conductor_pb2.ReportAnswer:
        raise AssertionError("fake stores report nothing")

    async def heard(self, *outcomes: Outcome) -> None:
        """Returns once these were reported, whatever else was."""
        async with self.changed:
            await self.changed.wait_for(lambda: set(outcomes) <= {outcome for _, outcome in self.outcomes})


def _going() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


def nobody(retry_after_s: float = 1.0) -> Rejection:
    return Rejection(RequestId("nobody"), RejectionCode.UNAVAILABLE, "No worker that decodes lives.", retry_after_s)


class FakeCluster:
    """One conductor, one store, a prefill worker and two decode workers, each at a socket of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.conductor = FakeConductor()
        self.conductor_target = self._target("conductor-0")
        self.store = FakeStore(self._target("store-0"))
        self.prefill = FakeWorker("prefill-0", self._target("prefill-0"), Role.PREFILL)
        self.decode = FakeWorker("decode-0", self._target("decode-0"), Role.DECODE)
        self.other = FakeWorker("decode-1", self._target("decode-1"), Role.DECODE)
        self.conductor.workers = [self.prefill, self.decode]
        self.conductor.stores = [self.store]

    @property
    def workers(self) -> list[FakeWorker]:
        return [self.prefill, self.decode, self.other]

    async def at_rest(self) -> None:
        async with asyncio.timeout(5):
            for worker in self.workers:
                await worker.at_rest()

    async def start(self, stack: AsyncExitStack) -> None:
        await self.serve(
            stack, self.conductor_target, conductor_pb2_grpc.add_ConductorServicer_to_server, self.conductor
        )
        await self.serve(stack, self.store.address, store_pb2_grpc.add_StoreServicer_to_server, self.store)
        for worker in self.workers:
            add = worker_pb2_grpc.add_WorkerServicer_to_server
            worker.server = await self.serve(stack, worker.address, add, worker)

    async def serve(
        self, stack: AsyncExitStack, target: str, add: Callable[[Any, grpc.aio.Server], None], servicer: object
    ) -> grpc.aio.Server:
        server = await serve(target, lambda server: add(servicer, server))
        stack.push_async_callback(server.stop, None)
        return server

    def _target(self, name: str) -> str:
        return f"unix:{self._directory / name}.sock"
