"""A worker that is told to change its role does so, says so, and goes on serving."""

import time
from math import inf
from pathlib import Path

from scheduler.conductor import Conductor
from scheduler.vocabulary import Role, WorkerId
from services.conductor.server import ConductorService
from services.wire.channel import serve
from services.wire.pb import conductor_pb2_grpc
from tests.services.rig import rig


async def test_a_directive_travels_in_the_answer_to_a_report_and_is_obeyed_once(tmp_path: Path) -> None:
    conductor = Conductor()
    service = ConductorService(conductor, name="conductor-0", clock=time.monotonic)
    async with rig(tmp_path) as it:
        server = await serve(
            it.target("conductor-0"), lambda to: conductor_pb2_grpc.add_ConductorServicer_to_server(service, to)
        )
        run = await it.worker("worker-0", role=Role.DECODE, conductors=["conductor-0"])

        def role() -> Role | None:
            return next((each.role for each in conductor.snapshot().workers), None)

        await it.until("it is known", lambda: role() is Role.DECODE)
        conductor._roles._directives[WorkerId("worker-0")] = (Role.PREFILL, inf)
        await it.until("it has changed", lambda: role() is Role.PREFILL)
        await it.until("it was not told again", lambda: not conductor._roles._directives)
        for other in (Role.DECODE, Role.MIXED):
            run.worker.reports.take_role(other)  # too soon, and never
            assert run.worker.reports.role is Role.PREFILL
        await server.stop(0)
