"""Tell every conductor about oneself every 100 ms, for as long as one lives.

Every report is numbered; after one that may have been lost, or when the conductor asks, the
next is a snapshot. Reporting never stands in anybody's way: a conductor that is away
is told again when it is back. Only its refusal ends it, since that is meant for the operator.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from scheduler.vocabulary import CopyOrder, Role, StoreReport, WorkerReport
from services.registry.directory import Directory
from services.runtime.logs import fields
from services.runtime.process import Refusal
from services.wire import report_codec
from services.wire.channel import SOON_S, open_channel
from services.wire.errors import PeerError, PeerRefused, answer_to
from services.wire.pb.conductor_pb2 import ReportAnswer
from services.wire.pb.conductor_pb2_grpc import ConductorStub
from services.wire.tls import Tls

if TYPE_CHECKING:
    from services.wire.pb.conductor_pb2_grpc import ConductorAsyncStub

INTERVAL_S = 0.1
"""A report costs 0.3 ms here and there; a decision is at most this much behind."""

TIMEOUT_S = 2.0

log = logging.getLogger(__name__)

Report = WorkerReport | StoreReport
Compose = Callable[[int, bool], Report]
"""The report with this sequence number; a snapshot if asked for."""


class Reporter:
    """Reports to one conductor. ``hurry`` sends the next one now.

    directed: told of a role to take. ordered: told of each copy to make, until it is made.
    """

    def __init__(
        self,
        target: str,
        compose: Compose,
        *,
        tls: Tls | None = None,
        interval_s: float = INTERVAL_S,
        directed: Callable[[Role], None] | None = None,
        ordered: Callable[[CopyOrder], None] | None = None,
    ) -> None:
        self._target = target
        self._tls = tls
        self._compose = compose
        self._interval_s = interval_s
        self._directed = directed
        self._ordered = ordered
        self._hurry = asyncio.Event()
        self.reached = asyncio.Event()
        """Set once a report has been taken."""

    def hurry(self) -> None:
        self._hurry.set()

    async def run(self) -> None:
        """Until cancelled. Raises Refusal with the conductor's sentence."""
        sequence, snapshot, away = 0, True, False
        async with open_channel(self._target, self._tls, reconnect_s=SOON_S) as channel:
            stub: ConductorAsyncStub = ConductorStub(channel)
            while True:
                sequence += 1
                asked = snapshot
                try:
                    answer = await _send(stub, self._compose(sequence, asked))
                except PeerRefused as refused:
                    raise Refusal(f"the conductor at {self._target} refuses this process: {refused}") from refused
                except PeerError as error:
                    if not away:  # before the first report it is only not there yet, as all start at once
                        level = logging.WARNING if self.reached.is_set() else logging.INFO
                        log.log(level, "conductor away", extra=fields(target=self._target, reason=str(error)))
                    snapshot, away = True, True
                else:
                    if away:
                        log.info("conductor back", extra=fields(target=self._target))
                    snapshot, away = answer.resync, False
                    if snapshot and not asked:
                        self.hurry()  # whoever has restarted is to know all at once, not one interval later
                    self.reached.set()
                    self._obey(answer)
                await self._pause()
                if away:
                    await channel.channel_ready()  # so that it hears of us as soon as it listens, and nothing stale

    def _obey(self, answer: ReportAnswer) -> None:
        """Conductors call nobody: what they want is in their answers."""
        role = report_codec.role_from_wire(answer.role)
        if role is not None and self._directed is not None:
            self._directed(role)
        if self._ordered is not None:
            for order in answer.copies:
                self._ordered(report_codec.copy_order_from_wire(order))

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._interval_s):
                await self._hurry.wait()
        except TimeoutError:
            return
        self._hurry.clear()


class Reporters:
    """A reporter for each conductor that is known, as they come and go. make: a new one, for this target."""

    def __init__(self, directory: Directory, make: Callable[[str], Reporter]) -> None:
        self._directory = directory
        self._make = make
        self._running: dict[str, tuple[Reporter, asyncio.Task[None]]] = {}

    def hurry(self) -> None:
        """The next report to each of them is sent now."""
        for reporter, _ in self._running.values():
            reporter.hurry()

    async def run(self) -> None:
        """Until cancelled. Raises Refusal with a conductor's sentence."""
        async with asyncio.TaskGroup() as group:
            while True:
                change = self._directory.change
                targets = self._directory.conductors
                for gone in self._running.keys() - set(targets):
                    _, task = self._running.pop(gone)
                    task.cancel()
                for target in targets:
                    if target not in self._running:
                        reporter = self._make(target)
                        task = group.create_task(reporter.run(), name=f"reports to {target}")
                        self._running[target] = reporter, task
                await change.wait()


async def _send(stub: "ConductorAsyncStub", report: Report) -> ReportAnswer:
    match report:
        case WorkerReport():
            wire = report_codec.worker_report_to_wire(report)
            return await answer_to(stub.ReportWorker(wire, timeout=TIMEOUT_S))
        case StoreReport():
            return await answer_to(stub.ReportStore(report_codec.store_report_to_wire(report), timeout=TIMEOUT_S))
