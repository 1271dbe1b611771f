"""Workers and conductors that refuse, die and come back: what a client sees of it."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from scheduler.vocabulary import Outcome, Rejection, RejectionCode, RequestId, WorkerId
from services.gateway.cluster import ClusterClient
from services.gateway.generation import Account
from services.gateway.patience import Patience
from services.gateway.text import Text
from services.gateway.voices import account_headers
from services.wire.pb import worker_pb2_grpc
from tests.services.gateway.conftest import Gateway, running
from tests.services.gateway.fakes.cluster import FakeCluster
from tests.services.gateway.fakes.conductor import nobody
from tests.services.gateway.fakes.worker import Fault, alphabet, letter

ASK: dict[str, Any] = {"prompt": "once upon a time", "max_tokens": 30, "temperature": 0, "seed": 3}
DIES = grpc.StatusCode.UNAVAILABLE


async def told(gateway: Gateway, stream: bool, **fields: object) -> tuple[str, str | None, dict[str, Any] | None]:
    """The text, why it ended, and the error if there was one."""
    answer = await gateway.http.post("/v1/completions", json=ASK | {"stream": stream} | fields)
    if answer.status_code != 200:
        return "", None, answer.json()["error"]
    if not stream:
        choice = answer.json()["choices"][0]
        return choice["text"], choice["finish_reason"], None
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    text, reason, error = "", None, None
    for document in (json.loads(event.removeprefix("data: ")) for event in events[:-2]):
        if "error" in document:
            error = document["error"]
            continue
        text += document["choices"][0]["text"]
        reason = document["choices"][0]["finish_reason"] or reason
    return text, reason, error


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("code", [DIES, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL])
async def test_a_worker_that_refuses_is_passed_over(
    gateway: Gateway, cluster: FakeCluster, code: grpc.StatusCode, stream: bool
) -> None:
    cluster.conductor.workers = [cluster.decode, cluster.other]
    cluster.decode.faults = [Fault(code=code)]
    assert await told(gateway, stream) == (alphabet(30), "length", None)
    assert [ask.excluded for ask in cluster.conductor.asks] == [frozenset(), {"decode-0"}]
    assert len({ask.request for ask in cluster.conductor.asks}) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_worker_that_cannot_be_reached_is_passed_over(
    gateway: Gateway, cluster: FakeCluster, stream: bool
) -> None:
    cluster.conductor.workers = [cluster.decode, cluster.other]
    assert cluster.decode.server is not None
    await cluster.decode.server.stop(None)
    assert await told(gateway, stream) == (alphabet(30), "length", None)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("handed_over", [False, True])
async def test_a_stream_whose_worker_dies_goes_on_at_another(
    gateway: Gateway, cluster: FakeCluster, handed_over: bool, stream: bool
) -> None:
    cluster.conductor.hand_over = handed_over
    cluster.conductor.workers = [cluster.prefill, cluster.decode, cluster.other]
    cluster.decode.faults = [Fault(after=7)]
    cluster.decode.cached_tokens = cluster.prefill.cached_tokens = 0
    cluster.prefill.token = lambda position: letter(0) if len(cluster.prefill.prefills) == 1 else letter(8)
    cluster.other.cached_tokens = 16
    text, reason, error = await told(gateway, stream)
    assert (text, reason, error) == (alphabet(30), "length", None)
    given = 8 if handed_over else 7
    again = cluster.other.decodes[0]
    assert list(again.output) == [letter(position) for position in range(given)]
    assert cluster.other.firsts == ([letter(given)] if handed_over else [])
    assert (again.sampling, again.limits) == (cluster.decode.decodes[0].sampling, cluster.decode.decodes[0].limits)
    assert cluster.conductor.asks[1].tokens == 16 + given
    assert len(cluster.conductor.asks[1].names) == (16 + given) // 16
    if handed_over:
        second = cluster.prefill.prefills[1]
        assert (bytes(second.prompt), bytes(second.output)) == (b"once upon a time", alphabet(8).encode())
        assert second.limits.max_tokens == 30
    await cluster.at_rest()
    async with asyncio.timeout(5):
        await cluster.conductor.heard(Outcome.FAILED, Outcome.FINISHED)


async def test_what_a_resumed_stream_finds_again_is_not_billed_as_cached(
    gateway: Gateway, cluster: FakeCluster
) -> None:
    cluster.conductor.workers = [cluster.decode, cluster.other]
    cluster.decode.faults = [Fault(after=7)]
    cluster.other.cached_tokens = 16
    document = (await gateway.http.post("/v1/completions", json=ASK)).json()
    assert document["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert document["usage"]["completion_tokens"] == 30


async def test_headers_tell_of_the_first_token_and_of_who_decoded_last(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.conductor.hand_over = True
    cluster.conductor.workers = [cluster.prefill, cluster.decode, cluster.other]
    cluster.prefill.token = lambda position: letter(0) if len(cluster.prefill.prefills) == 1 else letter(8)
    for stream, decoded in ((True, "decode-0"), (False, "decode-1")):
        cluster.conductor.predicted_ttfts_s = [0.025, 0.5]
        cluster.prefill.prefills.clear()
        cluster.prefill.cached_tokens = 16
        cluster.decode.faults = [Fault(after=7)]
        answer = await gateway.http.post("/v1/completions", json=ASK | {"stream": stream})
        assert not cluster.conductor.predicted_ttfts_s
        assert answer.headers["x-moonpool-prefill"] == "prefill-0"
        assert answer.headers["x-moonpool-decode"] == decoded
        assert answer.headers["x-moonpool-cached-tokens"] == "16"
        assert answer.headers["x-moonpool-predicted-ttft-ms"] == "25.0"


async def test_a_prefill_after_the_first_token_did_not_give_it(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.conductor.workers = [cluster.prefill, cluster.decode, cluster.other]
    cluster.prefill.token = lambda position: letter(7)

    def hand_over_from_now_on() -> int:
        cluster.conductor.hand_over = True
        return letter(6)

    cluster.decode.token = lambda position: hand_over_from_now_on() if position == 6 else letter(position)
    cluster.decode.faults = [Fault(after=7)]
    answer = await gateway.http.post("/v1/completions", json=ASK)
    assert answer.json()["choices"][0]["text"] == alphabet(30)
    assert len(cluster.prefill.prefills) == 1
    assert "x-moonpool-prefill" not in answer.headers


async def test_headers_of_a_stream_tell_of_whoever_begins_it(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.conductor.workers = [cluster.decode]
    cluster.decode.faults = [Fault(after=0, hold=True)]
    body = ASK | {"prompt": ["first", "second"], "stream": True}
    async with gateway.http.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.headers["x-moonpool-decode"] == "decode-0"
        assert answer.headers["x-moonpool-cached-tokens"] == "0"
        assert answer.headers["x-moonpool-predicted-ttft-ms"] == "12.5"
    await cluster.at_rest()


async def test_a_failure_names_who_was_to_answer_and_who_failed_in_what_order(cluster: FakeCluster, text: Text) -> None:
    cluster.conductor.workers = [cluster.decode, cluster.other]
    for worker in (cluster.decode, cluster.other):
        worker.faults = [Fault(code=grpc.StatusCode.INTERNAL, sentence="it crashed")]
    async with running(cluster, text, patience=Patience(attempts=2)) as gateway:
        answer = await gateway.http.post("/v1/completions", json=ASK | {"stream": True})
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "The request failed 2 times, the last on decode-1: it crashed."
        assert answer.headers["x-moonpool-failed"] == "decode-0, decode-1"
        assert answer.headers["x-moonpool-decode"] == "decode-1"
        assert answer.headers["x-moonpool-predicted-ttft-ms"] == "12.5"
        assert "x-moonpool-prefill" not in answer.headers
        assert "x-moonpool-cached-tokens" not in answer.headers
        answer = await gateway.http.post("/v1/completions", json=ASK)
        assert "x-moonpool-failed" not in answer.headers


async def test_an_answer_names_who_failed_at_it_before(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.conductor.hand_over = True
    cluster.conductor.workers = [cluster.prefill, cluster.decode]
    cluster.prefill.faults = [Fault()]
    answer = await gateway.http.post("/v1/completions", json=ASK)
    assert answer.status_code == 200
    assert answer.headers["x-moonpool-failed"] == "prefill-0"
    assert answer.headers["x-moonpool-decode"] == "decode-0"


def test_of_those_who_failed_the_last_few_are_named() -> None:
    account = Account(failed=[WorkerId(f"d{number}") for number in range(20)])
    assert account_headers(account) == {"x-moonpool-failed": ", ".join(f"d{number}" for number in range(12, 20))}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_says_by_which_prediction(gateway: Gateway, cluster: FakeCluster, stream: bool) -> None:
    late = Rejection(RequestId("r"), RejectionCode.UNATTAINABLE, "late", 1.0, predicted_ttft_s=1.284)
    cluster.conductor.rejections = [late, nobody()]
    for told in ("1284.0", None):
        answer = await gateway.http.post("/v1/completions", json=ASK | {"stream": stream})
        assert answer.status_code in (429, 503)
        assert answer.headers.get("x-moonpool-predicted-ttft-ms") == told
        assert "x-moonpool-decode" not in answer.headers


@pytest.mark.parametrize("handed_over", [False, True])
async def test_a_stream_that_nobody_continues_ends_with_an_error_event(
    gateway: Gateway, cluster: FakeCluster, handed_over: bool
) -> None:
    cluster.conductor.hand_over = handed_over
    cluster.decode.faults = [Fault(after=7)]
    text, reason, error = await told(gateway, stream=True)
    assert text == alphabet(8 if handed_over else 7)
    assert reason is None
    assert error is not None
    assert error["type"] == "server_error"
    await cluster.at_rest()
    async with asyncio.timeout(5):
        await cluster.conductor.heard(Outcome.FAILED)


async def test_a_whole_answer_that_nobody_completes_is_503(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.decode.faults = [Fault(after=7)]
    answer = await gateway.http.post("/v1/completions", json=ASK)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


async def test_what_kills_its_workers_is_not_tried_for_ever(cluster: FakeCluster, text: Text) -> None:
    cluster.conductor.workers = [cluster.decode, cluster.other]
    for worker in cluster.workers:
        worker.faults = [Fault(after=0, code=grpc.StatusCode.INTERNAL, sentence="it crashed") for _ in range(9)]
    async with running(cluster, text, patience=Patience(attempts=3, waiting_s=5.0)) as gateway:
        _, _, error = await told(gateway, stream=True)
    assert error is not None
    assert "it crashed" in error["message"]
    assert len(cluster.decode.decodes) + len(cluster.other.decodes) == 3


async def test_a_stream_waits_for_its_only_worker_to_come_back(cluster: FakeCluster, text: Text) -> None:
    cluster.decode.faults = [Fault(after=7), *(Fault() for _ in range(3))]
    async with running(cluster, text, patience=Patience(waiting_s=0.0, resuming_s=10.0)) as gateway:
        assert await told(gateway, stream=True) == (alphabet(30), "length", None)


async def test_a_worker_that_was_restarted_is_reached_at_its_old_address(cluster: FakeCluster, text: Text) -> None:
    cluster.decode.faults = [Fault(after=7, hold=True)]
    async with AsyncExitStack() as stack, running(cluster, text, patience=Patience(resuming_s=10.0)) as gateway:
        telling = asyncio.create_task(told(gateway, stream=True))
        await cluster.decode.called()
        assert cluster.decode.server is not None
        await cluster.decode.server.stop(None)
        add = worker_pb2_grpc.add_WorkerServicer_to_server
        await cluster.serve(stack, cluster.decode.address, add, cluster.decode)
        assert await telling == (alphabet(30), "length", None)


async def test_without_a_prefill_worker_a_request_is_still_answered(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.conductor.hand_over = True
    cluster.prefill.faults = [Fault()]
    assert await told(gateway, stream=True) == (alphabet(30), "length", None)
    assert cluster.conductor.asks[1].excluded == {"prefill-0"}
    assert not cluster.decode.decodes[0].handed_over


async def test_a_worker_that_dies_after_its_last_token_has_told_everything(
    gateway: Gateway, cluster: FakeCluster
) -> None:
    cluster.decode.portion = 30
    cluster.decode.faults = [Fault(after=30)]

    def portion(request: object, position: int) -> tuple[list[int], str]:
        return [letter(each) for each in range(position, 30)], ""

    cluster.decode._portion = portion  # type: ignore[method-assign]
    assert await told(gateway, stream=True) == (alphabet(30), "length", None)
    assert len(cluster.conductor.asks) == 1


async def test_a_hand_over_is_over_once_decode_has_confirmed(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.conductor.hand_over = True
    cluster.decode.faults = [Fault(after=3, hold=True)]
    telling = asyncio.create_task(told(gateway, stream=True))
    async with asyncio.timeout(5):
        await cluster.conductor.heard(Outcome.HANDED_OVER)
        await cluster.prefill.at_rest()
    assert cluster.decode.open == 1
    telling.cancel()
    await cluster.at_rest()


async def test_a_first_token_may_be_all_that_was_wanted(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.conductor.hand_over = True
    cluster.decode.gate.clear()
    for stream in (False, True):
        assert await told(gateway, stream, stop="a") == ("", "stop", None)
        assert await told(gateway, stream, max_tokens=1) == ("a", "length", None)
    await cluster.at_rest()
    async with asyncio.timeout(5):
        await cluster.conductor.heard(Outcome.FINISHED)
    assert {outcome for _, outcome in cluster.conductor.outcomes} == {Outcome.FINISHED}


async def test_no_conductor_is_503(gateway: Gateway, text: Text, cluster: FakeCluster) -> None:
    await told(gateway, stream=False)
    await gateway.front.cluster.close()
    gateway.front.cluster = ClusterClient(["unix:/nowhere/conductor.sock"])
    _, _, error = await told(gateway, stream=True)
    assert error is not None
    assert "No conductor answers" in error["message"]


async def test_the_second_conductor_answers_where_the_first_does_not(cluster: FakeCluster, text: Text) -> None:
    async with running(cluster, text) as gateway:
        await gateway.front.cluster.close()
        gateway.front.cluster = ClusterClient(["unix:/nowhere/conductor.sock", cluster.conductor_target])
        assert await told(gateway, stream=True) == (alphabet(30), "length", None)


@pytest.mark.parametrize("silent", ["prefill", "decode"])
async def test_a_first_token_that_does_not_come_in_time_is_503(cluster: FakeCluster, text: Text, silent: str) -> None:
    cluster.conductor.hand_over = silent == "prefill"
    getattr(cluster, silent).faults = [Fault(hold=True)]
    async with running(cluster, text, patience=Patience(first_token_s=0.05)) as gateway:
        answer = await gateway.http.post("/v1/completions", json=ASK | {"stream": True})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    assert answer.json()["error"]["message"].startswith("No token of the answer came within 50 ms")
    assert answer.headers["x-moonpool-decode"] == "decode-0"
    await cluster.at_rest()


async def test_the_time_that_is_left_is_told_to_workers(cluster: FakeCluster, text: Text) -> None:
    cluster.conductor.hand_over = True
    async with running(cluster, text, patience=Patience(whole_s=30.0)) as gateway:
        await told(gateway, stream=False)
    for worker in (cluster.prefill, cluster.decode):
        assert 0 < worker.deadlines_s[0] <= 30.0


async def test_a_stream_that_goes_silent_ends_with_an_error_event(cluster: FakeCluster, text: Text) -> None:
    cluster.decode.faults = [Fault(after=3, hold=True)]
    async with running(cluster, text, patience=Patience(whole_s=0.2)) as gateway:
        said, reason, error = await told(gateway, stream=True)
    assert (said, reason) == ("abc", None)
    assert error is not None
    assert error["code"] == "deadline_exceeded"
    assert error["message"].startswith("The answer was not complete within 200 ms")
    await cluster.at_rest()


async def test_one_choice_that_fails_ends_them_all(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.decode.faults = [Fault(after=100), Fault(after=3)]
    _, _, error = await told(gateway, stream=True, n=2)
    assert error is not None
    assert (await gateway.http.post("/v1/completions", json=ASK | {"n": 2})).status_code == 200
    await cluster.at_rest()
    assert gateway.front.told == 0
