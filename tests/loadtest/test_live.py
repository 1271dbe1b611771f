"""The harness against a server of scripted timing gives exactly the metrics that were scripted."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from loadtest.client.server import ServerError
from loadtest.metrics import Facts, summary
from loadtest.metrics.slo import parse
from loadtest.mock_server import (
    DONE,
    TEMPLATE_TOKENS,
    Answer,
    Break,
    MockServer,
    Pause,
    Send,
    Step,
    asked_tokens,
    chunk,
    event,
    prompt_tokens,
    steady,
    usage,
)
from loadtest.record import Chunk, Outcome, Record
from loadtest.request import Request, Span
from loadtest.settings import Offer
from tests.loadtest.metrics.build import WHEN
from tests.loadtest.mocked import OFFER, measured

Body = dict[str, Any]
ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
REFUSAL = {"error": {"message": "It would be late.", "code": "slo_unattainable"}}


def asked(*at_s: float, tokens: int = 4) -> list[Request]:
    return [Request(each, (Span(2 * place, 20),), Span(2 * place + 1, tokens)) for place, each in enumerate(at_s)]


def in_order(records: Sequence[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.place)


def scripted(number: int, body: Body) -> list[Step]:
    """One of each kind of answer, in the order of their coming."""
    end = Send(usage(20, 4, cached=16) + DONE)
    scripts: list[list[Step]] = [
        # Role, an empty chunk, four tokens, the last with the reason.
        [
            Pause(0.25), Send(ROLE), Pause(0.375), Send(chunk(body, "")), Pause(0.5), Send(chunk(body, " a")),
            Pause(0.75), Send(chunk(body, " b")), Pause(1.0),
            Send(chunk(body, " c")), Pause(1.5), Send(chunk(body, " d", finish="length")), end,
        ],
        # A slow first token.
        [Pause(8.0), Send(chunk(body, " a b c")), Pause(8.5), Send(chunk(body, " d", finish="length")), end],
        # Cut within a character, and the second part later: the chunk is there when all of it is.
        [
            Pause(1.0), Send(chunk(body, " é")[:-20]), Pause(1.25), Send(chunk(body, " é")[-20:]),
            Pause(2.25), Send(chunk(body, " b c d", finish="length")), end,
        ],
        [Pause(0.5), Answer(429, REFUSAL, (("retry-after", "2"),))],
        [Pause(0.25), Answer(503, {"error": {"message": "Nobody.", "code": "service_unavailable"}})],
        [Pause(0.25), Answer(500, {"error": {"message": "Ours.", "code": None}})],
        [Pause(1.0), Send(chunk(body, " a")), Pause(2.0), Send(event({"error": {"code": "lost"}}) + DONE)],
        [Pause(1.0), Send(chunk(body, " a")), Pause(2.0), Break()],
        [Pause(1.0), Break()],
        [Pause(1.0), Send(chunk(body, " a")), Pause(2.0)],
    ]  # fmt: skip
    return scripts[number]


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_scripted_timings_give_exactly_the_known_records(endpoint: str) -> None:
    found = in_order(measured(scripted, asked(*map(float, range(10))), endpoint=endpoint).records)

    assert [record.sent_s for record in found] == [*map(float, range(10))]
    assert [record.lag_s for record in found] == [0.0] * 10
    assert [(record.outcome.value, record.cause) for record in found] == [
        ("finished", ""), ("finished", ""), ("finished", ""),
        ("refused", "slo_unattainable"), ("refused", "service_unavailable"), ("failed", "http 500"),
        ("failed", "lost"), ("failed", "connection reset"), ("failed", "connection reset"),
        ("failed", "stream ended early"),
    ]  # fmt: skip
    assert [record.ended_s - record.sent_s for record in found] == [1.5, 8.5, 2.25, 0.5, 0.25, 0.25, 2.0, 2.0, 1.0, 2.0]
    assert found[0].chunks == tuple(Chunk(at_s, 1) for at_s in (0.5, 0.75, 1.0, 1.5))
    assert found[1].chunks == (Chunk(8.0, 1), Chunk(8.5, 1))
    assert found[2].chunks == (Chunk(1.25, 1), Chunk(2.25, 1))
    assert found[7].chunks == (Chunk(1.0, 1),)
    assert [record.status for record in found] == [200, 200, 200, 429, 503, 500, 200, 200, None, 200]
    assert found[3].retry_after_s == 2.0
    assert {record.cached_tokens for record in found[:3]} == {16}


def test_and_exactly_the_known_metrics() -> None:
    records = measured(scripted, asked(*map(float, range(10)))).records
    found = summary(records, Facts(WHEN, slos=parse(["ttft:1250", "tpot:375"])))

    assert (found["num_prompts"], found["completed"], found["failed"], found["refused"]) == (10, 3, 7, 2)
    assert found["refusals_by_cause"] == {"slo_unattainable": 1, "service_unavailable": 1}
    assert found["failures_by_cause"] == {
        "connection reset": 2, "http 500": 1, "lost": 1, "stream ended early": 1
    }  # fmt: skip
    assert found["duration"] == 11.0  # the last was sent at 9 and ended 2 s later
    assert (found["total_input_tokens"], found["total_output_tokens"]) == (60, 12)
    assert found["mean_ttft_ms"] == (500.0 + 8000.0 + 1250.0) / 3
    assert found["median_ttft_ms"] == 1250.0
    # (1.5 - 0.5) / 3, (8.5 - 8) / 3 and (2.25 - 1.25) / 3: the server counts 4 tokens, whatever the chunks.
    assert found["median_tpot_ms"] == pytest.approx(1000.0 / 3, abs=1e-9)
    assert found["mean_tpot_ms"] == pytest.approx((1000.0 + 500.0 + 1000.0) / 9, abs=1e-9)
    assert found["mean_itl_ms"] == (250.0 + 250.0 + 500.0 + 500.0 + 1000.0) / 5
    assert found["median_tbt_ms"] == 500.0
    assert found["mean_e2el_ms"] == pytest.approx((1500.0 + 8500.0 + 2250.0) / 3, abs=1e-9)
    assert found["request_goodput"] == 2 / 11.0
    assert found["slo_attainment"] == 0.2
    assert found["slo_attainment_by"] == {"ttft:1250": 0.2, "tpot:375": 0.3}
    assert found["total_cached_tokens"] == 48
    assert found["cached_token_share"] == 0.8
    assert found["max_concurrent_requests"] == 3
    assert found["p99_lag_ms"] == 0.0


def test_a_steady_server_is_measured_as_it_is() -> None:
    seen = measured(steady(0.5, 0.125), offer=replace(OFFER, requests=40, rate_per_s=8.0, output_len=9, seed=3))
    found = summary(seen.records, Facts(WHEN))

    assert found["mean_ttft_ms"] == pytest.approx(500.0, abs=1e-6)
    assert found["std_ttft_ms"] == pytest.approx(0.0, abs=1e-6)
    assert found["p99_itl_ms"] == pytest.approx(125.0, abs=1e-6)
    assert found["p99_tpot_ms"] == pytest.approx(125.0, abs=1e-6)
    assert found["offered_request_rate"] == pytest.approx(8.0, abs=1e-9)


def test_the_server_is_asked_for_exactly_what_the_workload_has() -> None:
    server = MockServer(steady(0.5, 0.0))
    measured(steady(0.5, 0.0), asked(0.0, 1.0, tokens=6), server=server)

    assert [prompt_tokens(body) for body in server.bodies] == [20, 20]
    assert [asked_tokens(body) for body in server.bodies] == [6, 6]
    assert server.bodies[0]["prompt"] != server.bodies[1]["prompt"]
    first = {name: value for name, value in server.bodies[0].items() if name != "prompt"}
    assert first == {
        "model": "mock", "stream": True, "stream_options": {"include_usage": True}, "temperature": 0.0,
        "ignore_eos": True, "max_tokens": 6,
    }  # fmt: skip


def test_of_a_chat_the_template_is_part_of_what_the_server_counts() -> None:
    server = MockServer(steady(0.5, 0.0))
    requests = [
        Request(0.0, (Span(1, 30), Span(2, 12)), Span(3, 2)),
        Request(1.0, (Span(1, 30), Span(4, 2)), Span(5, 2)),
    ]
    measured(steady(0.5, 0.0), requests, server=server, endpoint="chat")

    assert [prompt_tokens(body) for body in server.bodies] == [42, 32]
    texts = [body["messages"][0]["content"].split() for body in server.bodies]
    assert texts[0][: 32 - TEMPLATE_TOKENS] == texts[1]
    assert all("max_completion_tokens" in body for body in server.bodies)


def test_what_is_said_to_the_server_is_said() -> None:
    server = MockServer(steady(0.5, 0.0))
    measured(
        steady(0.5, 0.0), asked(0.0), server=server, key="secret", slo_ttft_ms=500.0, slo_tpot_ms=12.5,
        headers=(("x-tenant", "a"),), extra_body='{"top_k": 1}', temperature=None, ignore_eos=False, token_counts=True,
    )  # fmt: skip

    headers = server.headers[0]
    assert (headers["authorization"], headers["x-tenant"]) == ("Bearer secret", "a")
    assert (headers["x-slo-ttft-ms"], headers["x-slo-tpot-ms"]) == ("500", "12.5")
    assert server.bodies[0]["top_k"] == 1
    assert server.bodies[0]["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert not {"temperature", "ignore_eos"} & set(server.bodies[0])


def test_headers_of_promises_are_sent_only_where_asked_for() -> None:
    server = MockServer(steady(0.5, 0.0))
    measured(steady(0.5, 0.0), asked(0.0), server=server)

    assert not [name for name in server.headers[0] if name.startswith("x-slo") or name == "authorization"]


def test_who_leaves_midway_closes_its_connection() -> None:
    server = MockServer(steady(0.5, 0.5))
    found = in_order(
        measured(
            steady(0.5, 0.5), offer=Offer(requests=20, input_len=8, output_len=9, cancel_share=0.5), server=server
        ).records
    )
    left = [record for record in found if record.outcome is Outcome.CANCELLED]

    assert 3 <= len(left) <= 17
    assert server.left == len(left)
    assert all(record.cause == "left midway" for record in left)
    assert all(1 <= len(record.chunks) < 9 for record in left)
    assert {record.outcome for record in found} == {Outcome.CANCELLED, Outcome.FINISHED}


def test_a_slow_answer_is_given_up_after_the_time_out() -> None:
    found = measured(steady(100.0, 0.0), asked(0.0), timeout_s=4.0).records

    assert (found[0].outcome, found[0].cause) == (Outcome.FAILED, "time-out")
    assert found[0].ended_s == 4.0


def test_interrupted_it_keeps_what_was_measured() -> None:
    seen = measured(steady(1.0, 0.5), asked(0.0, 2.0, 100.0), stop_s=3.25)

    assert [(record.place, record.outcome) for record in in_order(seen.records)] == [
        (0, Outcome.FINISHED),
        (1, Outcome.CANCELLED),
    ]
    assert in_order(seen.records)[1].chunks == (Chunk(1.0, 1),)
    assert seen.duration_s == 3.25


def test_warm_ups_come_before_and_are_not_measured() -> None:
    server = MockServer(steady(0.5, 0.0))
    seen = measured(steady(0.5, 0.0), offer=replace(OFFER, requests=2, warmups=3), server=server)

    assert len(server.bodies) == 5
    assert len(seen.records) == 2
    assert [record.sent_s for record in seen.records] == [0.0, 0.0]
    prompts = [tuple(body["prompt"]) for body in server.bodies]
    assert len(set(prompts)) == 5


def test_if_no_warm_up_is_answered_there_is_no_run() -> None:
    def refuses(number: int, body: Body) -> list[Step]:
        return [Answer(429, REFUSAL)]

    with pytest.raises(ServerError, match="no warm-up was answered: slo_unattainable: It would be late"):
        measured(refuses, offer=replace(OFFER, requests=2, warmups=2))


def test_answers_that_were_given_are_in_later_prompts_where_the_server_tells_them() -> None:
    ids = [7, 8, 9, 10]

    def tells(number: int, body: Body) -> list[Step]:
        assert body["return_token_ids"] is True
        choice = {"index": 0, "text": " a b c d", "token_ids": ids, "finish_reason": "length"}
        return [Pause(1.0), Send(event({"choices": [choice]}) + DONE)]

    server = MockServer(tells)
    turns = [
        Request(0.0, (Span(1, 6),), Span(2, 4)),
        Request(0.5, (Span(1, 6), Span(2, 4), Span(3, 5)), Span(4, 4), after=0),
    ]
    measured(tells, turns, server=server)
    first, second = (body["prompt"] for body in server.bodies)

    assert second[:10] == [*first, *ids]
    assert len(second) == 15


def test_another_model_than_is_served_is_told() -> None:
    with pytest.raises(ServerError, match="http://mock serves mock, not llama"):
        measured(steady(0.5, 0.0), asked(0.0), model="llama")


def test_a_server_that_is_not_ready_is_not_measured() -> None:
    server = MockServer(steady(0.5, 0.0))
    server.not_ready = "No worker has joined yet."
    with pytest.raises(ServerError, match=r"http://mock is not ready: No worker has joined yet\."):
        measured(steady(0.5, 0.0), asked(0.0), server=server)


def test_caches_that_cannot_be_reset_are_told() -> None:
    with pytest.raises(ServerError, match=r"its caches can't be reset .*HTTP 404"):
        measured(steady(0.5, 0.0), asked(0.0), reset_cache=True)
