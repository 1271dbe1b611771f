"""Under ``baseline`` the conductor is asked again when a prefill has ended; what it takes back is refused in time."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from scheduler.conductor import Conductor
from scheduler.vocabulary import Outcome, Profile, Promise, Rejection, RejectionCode, RequestId, StoreId, WorkerReport
from services.conductor.server import ConductorService
from services.gateway.patience import Patience
from services.gateway.text import Text
from services.wire.pb import conductor_pb2_grpc
from tests.services.gateway.conftest import running
from tests.services.gateway.fakes.cluster import FakeCluster
from tests.services.gateway.fakes.worker import FakeWorker, alphabet, letter

ASK: dict[str, Any] = {"prompt": "once upon a time", "max_tokens": 30, "temperature": 0}
TAKEN_BACK = Rejection(RequestId("any"), RejectionCode.UNATTAINABLE, "its prefill was in vain", 2.0)


def checking(cluster: FakeCluster, *taken_back: Rejection) -> None:
    cluster.conductor.hand_over = cluster.conductor.second_check = True
    cluster.conductor.taken_back = list(taken_back)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_taken_back_is_a_429_before_any_token_and_holds_nothing(
    cluster: FakeCluster, text: Text, stream: bool
) -> None:
    checking(cluster, TAKEN_BACK)
    async with running(cluster, text) as gateway:
        answer = await gateway.http.post("/v1/completions", json=ASK | {"stream": stream})
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "slo_unattainable"
        assert "in vain" in answer.json()["error"]["message"]
        assert answer.headers["retry-after"] == "2"
        await cluster.conductor.heard(Outcome.FAILED)
        await cluster.at_rest()
    assert (len(cluster.prefill.prefills), len(cluster.decode.decodes)) == (1, 0)
    assert [outcome for _, outcome in cluster.conductor.outcomes] == [Outcome.FAILED]


async def test_what_stands_goes_on_as_ever(cluster: FakeCluster, text: Text) -> None:
    checking(cluster)
    async with running(cluster, text) as gateway:
        answer = await gateway.http.post("/v1/completions", json=ASK)
        assert answer.json()["choices"][0]["text"] == alphabet(30)
    assert cluster.conductor.begun == [cluster.conductor.asks[0].request]


@pytest.mark.parametrize("hand_over", [False, True])
async def test_nobody_is_asked_unless_the_placement_says_so(cluster: FakeCluster, text: Text, hand_over: bool) -> None:
    cluster.conductor.hand_over = hand_over
    async with running(cluster, text) as gateway:
        assert (await gateway.http.post("/v1/completions", json=ASK)).status_code == 200
    assert cluster.conductor.begun == []


async def test_where_no_conductor_answers_what_was_said_stands(cluster: FakeCluster, text: Text) -> None:
    checking(cluster)
    cluster.conductor.deaf = True
    async with running(cluster, text) as gateway:
        answer = await gateway.http.post("/v1/completions", json=ASK)
        assert answer.json()["choices"][0]["text"] == alphabet(30)
    assert len(cluster.conductor.begun) == 1


async def test_a_batch_request_that_may_wait_is_placed_again(cluster: FakeCluster, text: Text) -> None:
    checking(cluster, replace(TAKEN_BACK, retry_after_s=0.001))
    async with running(cluster, text, patience=Patience(batch_s=20.0)) as gateway:
        answer = await gateway.http.post("/v1/completions", json=ASK | {"priority": "batch"})
        assert answer.json()["choices"][0]["text"] == alphabet(30)
    assert len(cluster.prefill.prefills) == 2
    assert len(set(cluster.conductor.begun)) == 2


async def test_a_real_conductor_takes_back_what_its_decode_pool_no_longer_keeps(
    cluster: FakeCluster, text: Text
) -> None:
    conductor = Conductor(admission="baseline", promise=Promise(tpot_s=0.02), report_ttl_s=1000.0, inline_max_tokens=0)
    clock = asyncio.get_running_loop().time

    def report(worker: FakeWorker, sequence: int, running: int = 0) -> WorkerReport:
        profile = Profile(prefill_s=(0.01, 0, 0), step_s=(0.01, 0.002, 0))
        return replace(
            worker.report(), store=StoreId("s"), sequence=sequence, profile=profile, running=running, max_num_seqs=100
        )

    def token(position: int) -> int:
        """While it prefills, others begin to decode where it was to go."""
        conductor.worker_reported(report(cluster.decode, 2, running=50), now=clock())
        return letter(position)

    for worker in (cluster.prefill, cluster.decode):
        conductor.worker_reported(report(worker, 1), now=clock())
    conductor.store_reported(replace(cluster.store.report(), store=StoreId("s"), snapshot=True), now=clock())
    cluster.conductor_target += "-real"
    async with AsyncExitStack() as stack:
        service = ConductorService(conductor, name="conductor-1", clock=clock)
        await cluster.serve(
            stack, cluster.conductor_target, conductor_pb2_grpc.add_ConductorServicer_to_server, service
        )
        gateway = await stack.enter_async_context(running(cluster, text))
        assert (await gateway.http.post("/v1/completions", json=ASK)).status_code == 200
        cluster.prefill.token = token
        answer = await gateway.http.post("/v1/completions", json=ASK)
    assert answer.status_code == 429
    assert len(cluster.decode.decodes) == 1
    assert (conductor.snapshot().refused, conductor.snapshot().prefills_wasted) == (1, 1)
