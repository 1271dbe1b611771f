"""A conductor that believes nothing: it places at the first worker, or answers as told."""
# ruff: noqa: N802 - methods are named after their RPCs

import asyncio
from dataclasses import dataclass, field

import grpc

from kvstore.layout import Identity
from scheduler.vocabulary import (
    Ask,
    Decision,
    Measured,
    Outcome,
    Placement,
    Rejection,
    RejectionCode,
    RequestId,
    Role,
    StoreTarget,
    Target,
    WorkerId,
)
from services.wire.cluster_codec import Cluster, cluster_to_wire
from services.wire.pb import common_pb2, conductor_pb2, conductor_pb2_grpc
from services.wire.placement_codec import (
    answer_to_wire,
    ask_from_wire,
    begins_answer_to_wire,
    begins_from_wire,
    measured_from_wire,
    outcome_from_wire,
)
from tests.services.gateway.fakes.deployment import IDENTITY, Context
from tests.services.gateway.fakes.store import FakeStore
from tests.services.gateway.fakes.worker import FakeWorker


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
