"""A gateway before a real conductor that refuses what it cannot keep: from a client's wish to its 429, and back."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, replace
from typing import Any

import pytest

from scheduler.conductor import Conductor
from scheduler.vocabulary import Priority, Profile, Promise, Urgency
from services.conductor.server import ConductorService
from services.gateway.text import Text
from services.wire.codec import urgency_from_wire
from services.wire.pb import conductor_pb2_grpc
from tests.services.gateway.conftest import Gateway, running
from tests.services.gateway.fakes.cluster import FakeCluster
from tests.services.gateway.fakes.worker import Fault, alphabet, letter

ASK: dict[str, Any] = {"prompt": "once upon a time", "max_tokens": 30, "temperature": 0}
HALF_A_SECOND = Profile(prefill_s=(0.5, 0, 0), step_s=(0.01, 0, 0))
"""Of every prefill, however short."""


@asynccontextmanager
async def promising(
    cluster: FakeCluster, text: Text, conductor: Conductor, **settings: object
) -> AsyncIterator[Gateway]:
    """Both decode workers, each of which needs half a second for a prompt."""
    clock = asyncio.get_running_loop().time
    for worker in (cluster.decode, cluster.other):
        conductor.worker_reported(replace(worker.report(), profile=HALF_A_SECOND, store=None), now=clock())
    async with AsyncExitStack() as stack:
        cluster.conductor_target += "-promising"
        add = conductor_pb2_grpc.add_ConductorServicer_to_server
        await cluster.serve(
            stack, cluster.conductor_target, add, ConductorService(conductor, name="conductor-1", clock=clock)
        )
        yield await stack.enter_async_context(running(cluster, text))


def early(**promise: float) -> Conductor:
    return Conductor(admission="early", promise=Promise(**promise), report_ttl_s=1000.0)


async def counted(gateway: Gateway, what: str) -> dict[str, str]:
    """Labelled counters whose names begin like that."""
    lines = (await gateway.http.get("/metrics")).text.splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if line.startswith(what) and "_total{" in line)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", ["header", "body"])
async def test_a_request_that_wants_it_sooner_than_it_can_be_is_refused(
    cluster: FakeCluster, text: Text, way: str, stream: bool
) -> None:
    wish: dict[str, Any] = (
        {"headers": {"x-slo-ttft-ms": "100"}, "json": ASK | {"stream": stream}}
        if way == "header"
        else {"json": ASK | {"stream": stream, "slo": {"ttft_ms": 100}}}
    )
    async with promising(cluster, text, early()) as gateway:
        assert (await gateway.http.post("/v1/completions", json=ASK)).status_code == 200
        answer = await gateway.http.post("/v1/completions", **wish)
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "slo_unattainable"
    predicted_ms = float(answer.headers["x-moonpool-predicted-ttft-ms"])
    said = re.match(
        r"First token predicted in ([\d.]+) ms, asked for within 100 ms;", answer.json()["error"]["message"]
    )
    assert said is not None
    assert float(said[1]) == pytest.approx(predicted_ms, abs=1.1)  # each is rounded in its own way
    assert 0 < int(answer.headers["retry-after-ms"]) <= 60_000
    assert int(answer.headers["retry-after"]) >= 1


async def test_refusals_are_counted_by_their_code(cluster: FakeCluster, text: Text) -> None:
    async with promising(cluster, text, early(ttft_s=0.1)) as gateway:
        assert (await gateway.http.post("/v1/completions", json=ASK)).status_code == 429
        assert (await counted(gateway, "moonpool_gateway_errors"))[
            'moonpool_gateway_errors_total{code="slo_unattainable"}'
        ] == "1.0"


async def test_a_request_may_be_content_with_less_than_is_promised(cluster: FakeCluster, text: Text) -> None:
    async with promising(cluster, text, early(ttft_s=0.1)) as gateway:
        assert (await gateway.http.post("/v1/completions", json=ASK)).status_code == 429
        patient = ASK | {"slo": {"ttft_ms": 5000}}
        assert (await gateway.http.post("/v1/completions", json=patient)).status_code == 200


async def test_batch_is_refused_where_interactive_is_taken(cluster: FakeCluster, text: Text) -> None:
    conductor, now = early(ttft_s=1.5), asyncio.get_running_loop().time()
    async with promising(cluster, text, conductor) as gateway:
        for worker in (cluster.decode, cluster.other):  # half a second is queued everywhere
            busy = replace(worker.report(), sequence=2, store=None, waiting=1, prefill_tokens_queued=64)
            conductor.worker_reported(replace(busy, profile=HALF_A_SECOND), now=now)
        assert (await gateway.http.post("/v1/completions", json=ASK | {"priority": "batch"})).status_code == 429
        assert (await gateway.http.post("/v1/completions", json=ASK | {"priority": 1})).status_code == 429
        assert (await gateway.http.post("/v1/completions", json=ASK | {"priority": 0})).status_code == 200


async def test_a_stream_that_has_begun_goes_on_even_if_late(cluster: FakeCluster, text: Text) -> None:
    conductor, clock = early(ttft_s=0.55), asyncio.get_running_loop().time
    dies = cluster.decode, cluster.other

    def token(position: int) -> int:
        """Once seven are given, every prefill takes ten times as long."""
        if position == 7:
            slow = replace(HALF_A_SECOND, prefill_s=(5.0, 0, 0))
            for worker in dies:
                conductor.worker_reported(replace(worker.report(), sequence=2, profile=slow, store=None), now=clock())
                worker.faults = []
        return letter(position)

    for worker in dies:
        worker.token, worker.faults = token, [Fault(after=8)]
    async with promising(cluster, text, conductor) as gateway:
        answer = await gateway.http.post("/v1/completions", json=ASK)
        assert answer.json()["choices"][0]["text"] == alphabet(30)
        assert len(cluster.decode.decodes) == len(cluster.other.decodes) == 1
        assert (await gateway.http.post("/v1/completions", json=ASK)).status_code == 429


async def test_a_conductor_keeps_what_was_measured_beside_what_it_predicted(cluster: FakeCluster, text: Text) -> None:
    conductor = early()
    async with promising(cluster, text, conductor) as gateway:
        for _ in range(3):
            await gateway.http.post("/v1/completions", json=ASK)
    accuracy = conductor.snapshot().accuracy.ttft  # a gateway that closes has told every outcome
    assert accuracy.count == 3
    assert accuracy.ratio is not None
    assert accuracy.ratio > 0
    async with promising(cluster, text, conductor) as gateway:
        shown = (await gateway.http.get("/status")).json()
    assert shown["predictions"]["ttft"] == asdict(accuracy)
    assert shown["predictions"]["tpot"] == asdict(conductor.snapshot().accuracy.tpot)
    assert (shown["refused"], shown["role_changes"]) == (0, 0)


async def test_workers_are_told_what_was_promised_and_how_much_of_it_is_left(cluster: FakeCluster, text: Text) -> None:
    wish = ASK | {"slo": {"ttft_ms": 5000}, "priority": "batch"}
    async with promising(cluster, text, early(ttft_s=0.6, tpot_s=0.05)) as gateway:
        await gateway.http.post("/v1/completions", json=wish)
    (asked,) = [*cluster.decode.decodes, *cluster.other.decodes]
    urgency = urgency_from_wire(asked.urgency)
    assert 0 < urgency.ttft_left_s < 5.0
    assert (urgency.tpot_s, urgency.priority) == (0.05, Priority.BATCH)


async def test_where_nothing_is_promised_workers_are_told_so(cluster: FakeCluster, text: Text) -> None:
    async with promising(cluster, text, early()) as gateway:
        await gateway.http.post("/v1/completions", json=ASK)
    (asked,) = [*cluster.decode.decodes, *cluster.other.decodes]
    assert urgency_from_wire(asked.urgency) == Urgency()


async def test_what_was_promised_is_counted_by_whether_it_was_kept(cluster: FakeCluster, text: Text) -> None:
    async with promising(cluster, text, Conductor(report_ttl_s=1000.0)) as gateway:
        await gateway.http.post("/v1/completions", json=ASK)
        assert set((await counted(gateway, "moonpool_slo_")).values()) == {"0.0"}
        await gateway.http.post("/v1/completions", json=ASK | {"slo": {"ttft_ms": 60_000, "tpot_ms": 0.001}})
        assert await counted(gateway, "moonpool_slo_") == {
            'moonpool_slo_met_total{slo="ttft"}': "1.0",
            'moonpool_slo_met_total{slo="tpot"}': "0.0",
            'moonpool_slo_missed_total{slo="ttft"}': "0.0",
            'moonpool_slo_missed_total{slo="tpot"}': "1.0",
        }
        await gateway.http.post("/v1/completions", json=ASK | {"slo": {"ttft_ms": 0.001}})
        assert (await counted(gateway, "moonpool_slo_"))['moonpool_slo_missed_total{slo="ttft"}'] == "1.0"
