"""Under a lopsided load a worker changes its role, and back when the load turns; what it has cached stays."""

import asyncio
import time
from pathlib import Path

import pytest

from engine.toy import ToyEngine
from scheduler.conductor import Conductor
from scheduler.roles import COOL_DOWN_S
from scheduler.vocabulary import Profile, Promise, Role
from services.conductor.notices import Notices
from services.conductor.server import ConductorService
from services.wire.channel import serve
from services.wire.pb import conductor_pb2_grpc
from services.worker import reports
from tests.services.rig import BLOCK_TOKENS, BLOCKS, Client, Rig, WorkerRun, rig

pytestmark = pytest.mark.slow

TIMES = 20.0
"""By how much the conductor's clock is faster: a cool-down takes three seconds."""

COSTS = Profile(prefill_s=(0.2, 0.0, 0.0), step_s=(0.02, 0.0, 0.0))
PROMPT = list(range(5 * BLOCK_TOKENS))


async def worker(it: Rig, name: str, role: Role) -> WorkerRun:
    engine = ToyEngine(BLOCKS, block_tokens=BLOCK_TOKENS, max_model_len=1024, profile=COSTS, sleep=time.sleep)
    return await it.worker(name, role=role, store="store-0", conductors=["conductor-0"], engine=engine, max_num_seqs=2)


async def test_roles_follow_a_lopsided_load_and_caches_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reports, "HOLD_S", 0.5)
    caplog.set_level("INFO")

    def clock() -> float:
        return TIMES * time.monotonic()

    conductor = Conductor(elastic=True, promise=Promise(ttft_s=0.1), report_ttl_s=1000.0)
    service, notices = ConductorService(conductor, name="conductor-0", clock=clock), Notices(conductor, elastic=True)
    changed_at: list[float] = []

    def roles() -> list[int]:
        """Prefill workers and decode workers, as the conductor believes."""
        before = conductor.snapshot().role_changes
        conductor.tick(now=clock())
        notices.look()
        if conductor.snapshot().role_changes > before:
            changed_at.append(clock())
        known = [each.role for each in conductor.snapshot().workers]
        return [known.count(Role.PREFILL), known.count(Role.DECODE)]

    async with rig(tmp_path) as it:
        server = await serve(
            it.target("conductor-0"), lambda to: conductor_pb2_grpc.add_ConductorServicer_to_server(service, to)
        )
        store = await it.store(conductors=["conductor-0"])
        prefills = [await worker(it, f"prefill-{number}", Role.PREFILL) for number in range(2)]
        decodes = [await worker(it, f"decode-{number}", Role.DECODE) for number in range(2)]
        clients = {run.target: await it.client(run) for run in [*prefills, *decodes]}
        for run in decodes:
            await clients[run.target].decode([*PROMPT, 1], request=f"warm {run.target}", max_tokens=1)
        held = set(store.node.catalog.held_names())
        await it.until("all are known", lambda: roles() == [2, 2])

        async with asyncio.TaskGroup() as load:  # queues of prompts, and nobody decodes
            tasks = [
                load.create_task(prefill_on(clients[run.target], number)) for run in prefills for number in range(8)
            ]
            await it.until("a decode worker prefills", lambda: roles() == [3, 1])
            for task in tasks:
                task.cancel()
        (turned,) = [run for run in decodes if run.worker.reports.role is Role.PREFILL]
        (left,) = [run for run in decodes if run is not turned]
        again = await clients[turned.target].decode([*PROMPT, 1], request="again", max_tokens=1)
        assert again.cached_tokens == len(PROMPT)
        assert held <= set(store.node.catalog.held_names())

        async with asyncio.TaskGroup() as load:  # every seat of the one that is left is taken
            tasks = [load.create_task(decode_on(clients[left.target], number)) for number in range(2)]
            await it.until("a prefill worker decodes", lambda: roles() == [2, 2], within_s=20.0)
            for task in tasks:
                task.cancel()
        assert len(changed_at) == 2
        assert changed_at[1] - changed_at[0] >= COOL_DOWN_S
        await server.stop(None)
    why = [record.message for record in caplog.records if "becomes a" in record.message]
    assert len(why) == 2
    assert "becomes a prefill worker" in why[0]
    assert "becomes a decode worker" in why[1]


async def decode_on(client: Client, number: int) -> None:
    """A long answer to a short prompt."""
    await client.decode([number], request=f"d{number}", max_tokens=900)


async def prefill_on(client: Client, number: int) -> None:
    """A prompt of its own, as a gateway would send it that nobody goes on with."""
    call = client.prefill_call([number, *range(3 * BLOCK_TOKENS)], request=f"p{number}", max_tokens=2)
    try:
        await client.first(call)
    finally:
        call.cancel()
