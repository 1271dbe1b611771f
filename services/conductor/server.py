"""The conductor over gRPC: decode, ask the plain object, encode.

It stamps what arrives with this process's clock and decides nothing. One event
loop owns the object, so it needs no lock.
"""
# ruff: noqa: N802 - methods are named after their RPCs

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kvstore.vocabulary import IdentityMismatch
from scheduler.conductor import Conductor
from scheduler.journal import Journal
from scheduler.vocabulary import Resync
from services.runtime.logs import fields
from services.wire import cluster_codec, placement_codec, report_codec
from services.wire.answering import Context, answering
from services.wire.pb import common_pb2, conductor_pb2, conductor_pb2_grpc
from services.wire.turned_away import TurnedAway

log = logging.getLogger(__name__)

Clock = Callable[[], float]


class ConductorService(conductor_pb2_grpc.ConductorServicer):
    """Serves one Conductor, or the Journal before it."""

    def __init__(self, conductor: Conductor | Journal, *, name: str, clock: Clock) -> None:
        self._conductor = conductor
        self._name = name
        self._clock = clock
        self._turned_away = TurnedAway()

    @contextmanager
    def _saying(self, process: str, address: str) -> Iterator[None]:
        """Around a report: where it is refused, by what name and why is in our log, too."""
        try:
            yield
        except IdentityMismatch as error:
            self._turned_away.say(f"{process} at {address}", str(error))
            raise

    async def Place(self, request: conductor_pb2.Ask, context: Context) -> conductor_pb2.PlaceAnswer:
        async with answering(context):
            ask = placement_codec.ask_from_wire(request, left_s=context.time_remaining())
            answer = self._conductor.place(ask, now=self._clock())
            return placement_codec.answer_to_wire(answer)

    async def DecodeBegins(self, request: conductor_pb2.Begins, context: Context) -> conductor_pb2.BeginsAnswer:
        async with answering(context):
            name = placement_codec.begins_from_wire(request)
            return placement_codec.begins_answer_to_wire(self._conductor.decode_begins(name, now=self._clock()))

    async def ReportWorker(self, request: conductor_pb2.WorkerReport, context: Context) -> conductor_pb2.ReportAnswer:
        async with answering(context):
            report, now = report_codec.worker_report_from_wire(request), self._clock()
            with self._saying(report.worker, report.address):
                resync = self._conductor.worker_reported(report, now=now)
            role = self._conductor.directive(report.worker, now=now)
            return conductor_pb2.ReportAnswer(resync=resync, role=report_codec.role_to_wire(role))

    async def ReportStore(self, request: conductor_pb2.StoreReport, context: Context) -> conductor_pb2.ReportAnswer:
        async with answering(context):
            report = report_codec.store_report_from_wire(request)
            with self._saying(report.store, report.address):
                resync = self._conductor.store_reported(report, now=self._clock())
            if resync is Resync.DRIFT:
                log.warning("a store holds other names than was believed", extra=fields(store=report.store))
            copies = map(report_codec.copy_order_to_wire, self._conductor.copies(report.store))
            return conductor_pb2.ReportAnswer(resync=resync is not None, copies=copies)

    async def ReportOutcome(self, request: conductor_pb2.OutcomeReport, context: Context) -> common_pb2.Empty:
        async with answering(context):
            name, outcome = placement_codec.outcome_from_wire(request)
            self._conductor.outcome(
                name, outcome, now=self._clock(), measured=placement_codec.measured_from_wire(request)
            )
            return common_pb2.Empty()

    async def Describe(self, request: common_pb2.Empty, context: Context) -> conductor_pb2.Cluster:
        snapshot = self._conductor.snapshot()
        return cluster_codec.cluster_to_wire(
            cluster_codec.Cluster(
                conductor=self._name,
                pid=os.getpid(),
                identity=snapshot.identity,
                handoffs=snapshot.handoffs,
                workers=snapshot.workers,
                stores=snapshot.stores,
                placements={decision.value: count for decision, count in snapshot.decisions.items()},
                ttft=snapshot.accuracy.ttft,
                tpot=snapshot.accuracy.tpot,
                refused=snapshot.refused,
                role_changes=snapshot.role_changes,
            )
        )
