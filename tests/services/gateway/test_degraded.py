"""With real workers: where one role has lost its last worker, requests go on, and it is said and counted."""

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from scheduler.conductor import Conductor
from scheduler.vocabulary import Decision, Role
from services.conductor.notices import STARTING_S, Notices
from services.conductor.server import ConductorService
from services.gateway.patience import Patience
from services.gateway.text import toy_text
from services.wire.channel import serve
from services.wire.pb import conductor_pb2_grpc
from tests.services.gateway.conftest import Gateway, running
from tests.services.rig import rig

ASK: dict[str, Any] = {"prompt": "once upon a time in a land far away", "max_tokens": 8, "temperature": 0}


class Conducted:
    """What ``running`` wants to know of a cluster."""

    def __init__(self, target: str) -> None:
        self.conductor_target = target


@pytest.mark.parametrize("left", [Role.PREFILL, Role.DECODE])
async def test_the_other_role_serves_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture, left: Role) -> None:
    conductor = Conductor(inline_max_tokens=0)
    service, times = (
        ConductorService(conductor, name="conductor-0", clock=time.monotonic),
        iter((0.0, *[STARTING_S] * 3)),
    )
    notices = Notices(conductor, clock=lambda: next(times))
    caplog.set_level(logging.INFO)
    async with rig(tmp_path) as it, AsyncExitStack() as stack:
        target = it.target("conductor-0")
        server = await serve(target, lambda to: conductor_pb2_grpc.add_ConductorServicer_to_server(service, to))
        await it.store(conductors=["conductor-0"])
        runs = {
            role: await it.worker(role.value, role=role, store="store-0", conductors=["conductor-0"])
            for role in (Role.PREFILL, Role.DECODE)
        }
        await it.until("both are known", lambda: len(conductor.snapshot().workers) == 2)
        notices.look()
        gateway: Gateway = await stack.enter_async_context(
            running(Conducted(target), toy_text(), patience=Patience())  # type: ignore[arg-type]
        )
        whole = await gateway.http.post("/v1/completions", json=ASK)
        assert whole.status_code == 200
        assert whole.headers["x-moonpool-prefill"] == "prefill"
        (gone,) = set(runs) - {left}
        await runs[gone].stop()

        def forgotten() -> bool:
            conductor.tick(now=time.monotonic())
            return len(conductor.snapshot().workers) == 1

        await it.until("it is forgotten", forgotten)
        notices.look()
        answer = await gateway.http.post("/v1/completions", json=ASK)
        assert answer.json()["choices"] == whole.json()["choices"]
        assert answer.headers["x-moonpool-decode"] == left.value
        assert "x-moonpool-prefill" not in answer.headers
        assert f"No {gone.value} worker lives" in (await gateway.http.get("/health")).json()["degraded"]
        assert conductor.snapshot().decisions[Decision.DEGRADED] == 1

        await it.worker(gone.value, role=gone, store="store-0", conductors=["conductor-0"])
        await it.until("it is back", lambda: conductor.degraded is None)
        notices.look()
        assert (await gateway.http.get("/health")).content == b""
        await asyncio.wait_for(server.stop(0), 10)
    said = [record.message for record in caplog.records if "degraded" in record.message]
    assert len(said) == 2
    assert f"No {gone.value} worker lives" in said[0]
