"""How soon a request wants its answer, its priority, its tenant: as its client says it, and as conductors hear it."""

import json
from typing import Any

import pytest

from scheduler.vocabulary import Priority, Rejection, RejectionCode, RequestId
from services.gateway.patience import Patience
from services.gateway.schemas import CompletionBody
from services.gateway.text import Text
from services.gateway.wishes import TENANT_DIGITS, Wishes, tenant, wishes
from tests.services.gateway.bodies import parse
from tests.services.gateway.conftest import Gateway, running
from tests.services.gateway.fakes.cluster import FakeCluster
from tests.services.gateway.fakes.conductor import nobody
from tests.services.gateway.fakes.worker import Fault, alphabet

ASK: dict[str, Any] = {"prompt": "once upon a time", "max_tokens": 30, "temperature": 0}


def wished(headers: dict[str, str] | None = None, **fields: object) -> Wishes:
    return wishes(parse(CompletionBody, json.dumps(ASK | fields).encode()), headers or {})


def test_whoever_says_nothing_gets_what_the_deployment_promises() -> None:
    assert wished() == Wishes(None, None, Priority.INTERACTIVE, "")
    assert wished(slo={}) == wished(slo={"ttft_ms": None}) == wished(slo=None, priority=None, user="") == wished()


def test_times_are_milliseconds_in_the_body_or_in_headers() -> None:
    assert wished(slo={"ttft_ms": 500, "tpot_ms": 12.5}) == Wishes(0.5, 0.0125)
    assert wished({"x-slo-ttft-ms": "500", "x-slo-tpot-ms": "12.5"}) == Wishes(0.5, 0.0125)


def test_a_header_wins_over_the_body_each_by_itself() -> None:
    assert wished({"x-slo-tpot-ms": "20"}, slo={"ttft_ms": 500, "tpot_ms": 10}) == Wishes(0.5, 0.02)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("interactive", Priority.INTERACTIVE),
        ("batch", Priority.BATCH),
        (0, Priority.INTERACTIVE),
        (-3, Priority.INTERACTIVE),
        (1, Priority.BATCH),
        (10**30, Priority.BATCH),
    ],
)
def test_a_priority_is_a_class_or_vllm_s_integer(said: object, meant: Priority) -> None:
    assert wished(priority=said).priority is meant


def test_a_tenant_is_a_key_or_else_a_user_and_known_by_a_digest_only() -> None:
    key = tenant("Bearer sk-secret", "")
    assert key == tenant("bearer sk-secret", "somebody") == tenant("sk-secret", "")
    assert key != tenant("Bearer sk-other", "")
    assert tenant("", "somebody") == tenant("Bearer ", "somebody") != tenant("", "somebody else")
    assert tenant("Bearer one", "") != tenant("", "one")
    assert tenant("", "") == ""
    assert len(key) == TENANT_DIGITS == len(tenant("", "x" * 10_000))
    assert "secret" not in key


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["x-slo-ttft-ms", "x-slo-tpot-ms"])
@pytest.mark.parametrize("value", ["", "soon", "0", "-1", "nan", "inf", "1e10"])
async def test_a_header_that_is_no_time_is_400_and_named(gateway: Gateway, name: str, value: str, stream: bool) -> None:
    answer = await gateway.http.post("/v1/completions", json=ASK | {"stream": stream}, headers={name: value})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["type"]) == (name, "invalid_request_error")
    assert f"`{name}`" in error["message"]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_the_conductor_hears_it_all(gateway: Gateway, cluster: FakeCluster, path: str) -> None:
    body = {"slo": {"ttft_ms": 500, "tpot_ms": 20}, "priority": "batch", "user": "somebody", "max_tokens": 2}
    prompt = {"prompt": "hello"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "hello"}]}
    headers = {"X-SLO-TTFT-MS": "250", "Authorization": "Bearer sk-secret"}
    assert (await gateway.http.post(path, json=prompt | body, headers=headers)).status_code == 200
    ask = cluster.conductor.asks[0]
    assert (ask.ttft_slo_s, ask.tpot_slo_s, ask.priority) == (0.25, 0.02, Priority.BATCH)
    assert ask.tenant == tenant("Bearer sk-secret", "")
    assert (ask.waited_s, ask.resumed) == (0.0, False)


async def test_choices_wish_alike(gateway: Gateway, cluster: FakeCluster) -> None:
    await gateway.http.post("/v1/completions", json=ASK | {"n": 3, "priority": 1, "slo": {"ttft_ms": 100}})
    assert [(ask.priority, ask.ttft_slo_s) for ask in cluster.conductor.asks] == [(Priority.BATCH, 0.1)] * 3


async def test_whoever_found_nobody_says_how_long_it_has_been_asking(cluster: FakeCluster, text: Text) -> None:
    cluster.conductor.rejections = [nobody(), nobody()]
    async with running(cluster, text, patience=Patience(waiting_s=5.0)) as gateway:
        assert (await gateway.http.post("/v1/completions", json=ASK)).status_code == 200
    first, second, third = (ask.waited_s for ask in cluster.conductor.asks)
    assert first == 0.0 < second < third


async def test_a_stream_that_goes_on_says_so(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.conductor.workers = [cluster.decode, cluster.other]
    cluster.decode.faults = [Fault(after=7)]
    answer = await gateway.http.post("/v1/completions", json=ASK | {"priority": "batch", "slo": {"tpot_ms": 20}})
    assert answer.json()["choices"][0]["text"] == alphabet(30)
    asks = cluster.conductor.asks
    assert [ask.resumed for ask in asks] == [False, True]
    assert [(ask.priority, ask.tpot_slo_s) for ask in asks] == [(Priority.BATCH, 0.02)] * 2


async def test_a_worker_that_refused_before_the_first_token_makes_no_stream_of_it(
    gateway: Gateway, cluster: FakeCluster
) -> None:
    cluster.conductor.workers = [cluster.decode, cluster.other]
    cluster.decode.faults = [Fault()]
    assert (await gateway.http.post("/v1/completions", json=ASK)).status_code == 200
    assert [ask.resumed for ask in cluster.conductor.asks] == [False, False]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_would_be_late_is_429_with_the_predicted_time_to_come_back(
    gateway: Gateway, cluster: FakeCluster, stream: bool
) -> None:
    late = Rejection(RequestId("r"), RejectionCode.UNATTAINABLE, "Its first token would be late.", 7.25)
    cluster.conductor.rejections = [late]
    answer = await gateway.http.post("/v1/completions", json=ASK | {"stream": stream, "priority": "batch"})
    assert answer.status_code == 429
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("8", "7250")
    assert answer.headers.get("x-should-retry") is None, "clients come back of themselves"
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("slo_unattainable", "rate_limit_error")
    assert error["message"] == "Its first token would be late."
    assert len(cluster.conductor.asks) == 1


async def test_a_batch_request_may_wait_until_there_is_room(cluster: FakeCluster, text: Text) -> None:
    late = Rejection(RequestId("r"), RejectionCode.UNATTAINABLE, "Its first token would be late.", 0.06)
    cluster.conductor.rejections = [late, late]
    async with running(cluster, text, patience=Patience(batch_s=30.0)) as gateway:
        assert (await gateway.http.post("/v1/completions", json=ASK | {"priority": "batch"})).status_code == 200
        first, second, third = (ask.waited_s for ask in cluster.conductor.asks)
        assert first == 0.0
        assert second >= 0.06
        assert third >= second + 0.06
        cluster.conductor.rejections = [late]
        assert (await gateway.http.post("/v1/completions", json=ASK)).status_code == 429
