"""Scripted bytes at scripted times give exactly the record that they should. Times are sums of powers of two."""

import json
from typing import Any

import pytest

from loadtest.client.answer import Answer, Offered
from loadtest.metrics.timing import e2el_s, itls_s, output_tokens, request_tbt_s, tpot_s
from loadtest.record import Chunk, Outcome, Record

ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
EMPTY = {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": None}]}
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None}


def says(text: str, **more: object) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}


def usage(completion: int, *, prompt: int = 12, cached: int | None = None) -> dict[str, Any]:
    details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": completion, **details}}


def event(document: object) -> bytes:
    return (
        b"data: "
        + (document if isinstance(document, bytes) else json.dumps(document, ensure_ascii=False).encode())
        + b"\n\n"
    )


def answered(*script: tuple[float, object], status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """Sent at 1.0; each entry is a time since then and an event."""
    answer = Answer(Offered(7, 0.5, 10, 4))
    answer.sent(now=1.0)
    answer.head(status, headers or {})
    for at_s, document in script:
        answer.feed(event(document), now=1.0 + at_s)
    return answer


def recorded(*script: tuple[float, object], **head: Any) -> Record:
    answer = answered(*script, **head)
    answer.ended(now=1.0 + script[-1][0])
    return answer.record()


def test_role_and_empty_chunks_are_no_tokens() -> None:
    found = recorded(
        (0.25, ROLE), (0.5, EMPTY), (0.75, says("a")), (1.0, EMPTY), (1.25, says("b")), (1.5, STOP),
        (1.75, {"choices": [], **usage(2, cached=8)}), (2.0, b"[DONE]"),
    )  # fmt: skip

    assert found == Record(
        7, 0.5, 1.0, 10, 4, Outcome.FINISHED, 3.0, (Chunk(0.75, 1), Chunk(1.25, 1)), status=200, finish_reason="stop",
        prompt_tokens=12, completion_tokens=2, cached_tokens=8,
    )  # fmt: skip
    assert (found.ttft_s, e2el_s(found), tpot_s(found), itls_s(found)) == (0.75, 1.25, 0.5, [0.5])
    assert found.lag_s == 0.5


def test_several_tokens_in_a_chunk_are_one_gap_and_count_as_the_server_counts() -> None:
    found = recorded((1.0, says("a b c")), (3.0, says("d e")), (3.0, STOP), (3.0, usage(5)), (3.0, b"[DONE]"))

    assert itls_s(found) == [2.0]
    assert tpot_s(found) == 0.5
    assert output_tokens(found) == 5


def test_a_server_that_counts_in_every_chunk_tells_how_many_came() -> None:
    found = recorded((1.0, says("a b c", **usage(3))), (2.0, says("d", **usage(4))), (2.0, STOP), (2.0, b"[DONE]"))

    assert found.chunks == (Chunk(1.0, 3), Chunk(2.0, 1))


def test_so_does_one_that_tells_token_ids() -> None:
    first = {"choices": [{"index": 0, "text": "a b", "token_ids": [5, 6], "finish_reason": None}]}
    last = {"choices": [{"index": 0, "text": "c", "token_ids": [7], "finish_reason": "length"}]}
    answer = answered((1.0, first), (2.0, last), (2.0, b"[DONE]"))

    assert answer.record().chunks == (Chunk(1.0, 2), Chunk(2.0, 1))
    assert answer.record().finish_reason == "length"
    assert answer.token_ids == [5, 6, 7]


def test_what_is_thought_or_called_is_generated_too() -> None:
    thinks = {"choices": [{"delta": {"reasoning_content": "hm"}}]}
    calls = {"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}
    found = recorded((1.0, thinks), (2.0, calls), (3.0, STOP), (3.0, b"[DONE]"))

    assert len(found.chunks) == 2


def test_chunks_of_one_read_came_at_one_time() -> None:
    answer = answered()
    answer.feed(event(says("a")) + event(says("b")) + event(STOP) + event(b"[DONE]"), now=2.0)

    assert itls_s(answer.record()) == [0.0]
    assert request_tbt_s(answer.record()) == 0.0


def test_a_chunk_counts_when_its_last_byte_came() -> None:
    answer = answered()
    whole = event(says("é")) + event(STOP) + event(b"[DONE]")
    middle = whole.index("é".encode()) + 1  # half a character
    answer.feed(whole[:middle], now=2.0)
    answer.feed(whole[middle:], now=2.5)

    assert answer.record().ttft_s == 1.5


@pytest.mark.parametrize(
    ("status", "body", "outcome", "cause", "detail"),
    [
        (429, {"error": {"message": "Late.", "code": "slo_unattainable"}}, "refused", "slo_unattainable", "Late."),
        (429, {"error": {"message": "Busy.", "code": 429}}, "refused", "http 429", "Busy."),
        (503, {"message": "No workers.", "type": "x", "code": 503}, "refused", "http 503", "No workers."),
        (503, "down for repairs", "refused", "http 503", "down for repairs"),
        (401, {"error": "Unauthorized"}, "failed", "http 401", "Unauthorized"),
        (400, {"error": {"message": "Long.", "code": "too_long"}}, "failed", "too_long", "Long."),
        (500, None, "failed", "http 500", "None"),
        (500, [1], "failed", "http 500", "[1]"),
    ],
)  # fmt: skip
def test_other_statuses_have_causes(status: int, body: object, outcome: str, cause: str, detail: str) -> None:
    answer = answered(status=status, headers={"retry-after": "2"})
    whole = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    answer.feed(whole[:5], now=1.25)
    answer.feed(whole[5:], now=1.5)
    answer.ended(now=1.5)
    found = answer.record()

    assert (found.outcome, found.cause, found.detail) == (Outcome(outcome), cause, detail)
    assert (found.status, found.retry_after_s, found.chunks, found.ended_s) == (status, 2.0, (), 1.5)


def test_an_error_event_midway_fails_it_and_keeps_what_came() -> None:
    error = {"error": {"message": "The worker died.", "code": "service_unavailable"}}
    found = recorded((1.0, says("a")), (2.0, error), (2.0, b"[DONE]"))

    assert (found.outcome, found.cause, found.detail) == (Outcome.FAILED, "service_unavailable", "The worker died.")
    assert found.chunks == (Chunk(1.0, 1),)


def test_a_stream_that_stops_before_its_end_has_failed() -> None:
    found = recorded((1.0, says("a")))

    assert (found.outcome, found.cause, found.detail) == (Outcome.FAILED, "stream ended early", "after 1 chunks")


def test_who_says_how_it_ended_need_not_say_done() -> None:
    found = recorded((1.0, says("a")), (2.0, STOP))

    assert found.outcome is Outcome.FINISHED


def test_a_connection_that_breaks_midway_fails_it_but_not_after_its_end() -> None:
    broken, whole = answered((1.0, says("a"))), answered((1.0, says("a")), (2.0, STOP), (2.0, b"[DONE]"))
    for answer in (broken, whole):
        answer.broke("connection reset", "by peer", now=4.0)

    assert (broken.record().outcome, broken.record().cause) == (Outcome.FAILED, "connection reset")
    assert broken.record().ended_s == 4.0
    assert (whole.record().outcome, whole.record().ended_s) == (Outcome.FINISHED, 3.0)


def test_an_answer_without_content_is_none() -> None:
    found = recorded((1.0, ROLE), (1.0, STOP), (1.0, b"[DONE]"))

    assert (found.outcome, found.cause) == (Outcome.FAILED, "empty answer")


@pytest.mark.parametrize("document", [b"{", b"[]", b'{"choices": ["a"]}', b'{"usage": {"completion_tokens": "x"}}'])
def test_what_is_no_chunk_fails_it(document: bytes) -> None:
    found = recorded((1.0, document), (1.0, b"[DONE]"))

    assert (found.outcome, found.cause) == (Outcome.FAILED, "malformed stream")


def test_it_leaves_after_as_many_tokens_as_it_was_told() -> None:
    answer = Answer(Offered(0, 0.0, 10, 4, leave_after=2))
    answer.sent(now=0.0)
    answer.head(200, {})
    enough = []
    for at_s, text in ((1.0, "a"), (2.0, "b")):
        answer.feed(event(says(text)), now=at_s)
        enough.append(answer.enough)
    assert enough == [False, True]
    answer.left("left midway", now=2.0)

    assert (answer.record().outcome, answer.record().cause) == (Outcome.CANCELLED, "left midway")
    assert len(answer.record().chunks) == 2


def test_headers_tell_what_a_moonpool_expects() -> None:
    headers = {
        "x-moonpool-prefill": "p0", "x-moonpool-decode": "d1", "x-moonpool-cached-tokens": "64",
        "x-moonpool-predicted-ttft-ms": "250.0", "x-request-id": "r",
    }  # fmt: skip
    found = recorded((1.0, says("a")), (1.0, STOP), (1.0, b"[DONE]"), headers=headers)

    assert (found.prefill, found.decode, found.request_id) == ("p0", "d1", "r")
    assert (found.cached_tokens, found.predicted_ttft_s) == (64, 0.25)


@pytest.mark.parametrize(
    ("headers", "retry_after_s"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "3", "retry-after-ms": "2500"}, 2.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
    ],
)
def test_when_to_come_again_is_seconds_or_unknown(headers: dict[str, str], retry_after_s: float | None) -> None:
    answer = answered(status=429, headers=headers)
    answer.ended(now=2.0)

    assert answer.record().retry_after_s == retry_after_s
