"""What a client is told when its request is wrong, too long or too much: OpenAI's shape, whatever went wrong."""

from typing import Any

import grpc
import httpx
import pytest

from scheduler.vocabulary import Rejection, RejectionCode, RequestId
from services.gateway.text import Text
from tests.services.gateway.conftest import Gateway, running
from tests.services.gateway.fakes.cluster import FakeCluster
from tests.services.gateway.fakes.worker import Fault

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
COMPLETION: dict[str, Any] = {"prompt": "hello"}


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert "Traceback" not in answer.text
    assert answer.headers["x-request-id"]
    return dict(error)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", CHAT | {"max_tokens": 10**9}, "max_tokens"),
        ("/v1/chat/completions", CHAT | {"max_completion_tokens": 512}, "max_completion_tokens"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 500}]}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 200_000}]}, "messages"),
        ("/v1/chat/completions", CHAT | {"stream_options": {}}, "stream_options"),
        ("/v1/chat/completions", CHAT | {"min_tokens": 6, "max_tokens": 5}, "min_tokens"),
        ("/v1/chat/completions", CHAT | {"stop_token_ids": [512]}, "stop_token_ids"),
        ("/v1/chat/completions", CHAT | {"logprobs": True}, "logprobs"),
        (
            "/v1/chat/completions",
            CHAT | {"continue_final_message": True, "add_generation_prompt": True},
            "continue_final_message",
        ),
        ("/v1/completions", COMPLETION | {"max_tokens": 508}, "max_tokens"),
        ("/v1/completions", {"prompt": ""}, "prompt"),
        ("/v1/completions", {"prompt": [512]}, "prompt"),
        ("/v1/completions", {"prompt": [-1]}, "prompt"),
        ("/v1/completions", {"prompt": [1] * 512}, "prompt"),
        ("/v1/completions", {"prompt": ["ok", "x" * 600]}, "prompt"),
        ("/v1/completions", {"prompt": ["a"] * 65, "n": 2}, "prompt"),
        ("/v1/completions", COMPLETION | {"suffix": "end"}, "suffix"),
        ("/detokenize", {"tokens": [512]}, "tokens"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"prompt": "x" * (512 * 16 * 20)}, "prompt"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_mistake_is_told_by_the_name_of_its_field(
    gateway: Gateway, path: str, body: dict[str, Any], param: str
) -> None:
    await gateway.front.refresh()
    answer = await gateway.http.post(path, json=body)
    assert answer.status_code == 400, answer.text
    error = error_of(answer)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")


async def test_a_prompt_that_is_too_long_is_told_how_long_it_may_be(gateway: Gateway) -> None:
    answer = await gateway.http.post("/v1/completions", json={"prompt": "x" * 600})
    error = error_of(answer)
    assert error["message"].startswith("This model's maximum context length is 512 tokens. However, ")
    assert error["code"] == "context_length_exceeded"


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
async def test_json_is_json_whatever_it_is_called(gateway: Gateway, content_type: str) -> None:
    answer = await gateway.http.post(
        "/v1/completions", content=b'{"prompt": "a", "max_tokens": 1}', headers={"content-type": content_type}
    )
    assert answer.status_code == 200


async def test_malformed_json_is_400(gateway: Gateway) -> None:
    answer = await gateway.http.post("/v1/completions", content=b"{", headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert error_of(answer)["param"] is None


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"])
async def test_an_unknown_model_is_404(gateway: Gateway, path: str) -> None:
    body = CHAT | COMPLETION | {"tokens": [1], "model": "gpt-9"}
    answer = await gateway.http.post(path, json=body)
    assert answer.status_code == 404
    error = error_of(answer)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "gpt-9" in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("POST", "/v1/embeddings", 404),
        ("POST", "/v1/responses", 404),
        ("GET", "/v1/models/gpt-9", 404),
        ("GET", "/v1/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/reset_prefix_cache", 404),
    ],
)
async def test_what_is_not_there_is_told_in_the_same_shape(
    gateway: Gateway, method: str, path: str, status: int
) -> None:
    answer = await gateway.http.request(method, path)
    assert answer.status_code == status
    error_of(answer)


async def test_a_method_that_is_not_possible_is_told_with_the_one_that_is(gateway: Gateway) -> None:
    error = error_of(await gateway.http.get("/v1/completions"))
    assert error["message"] == "GET /v1/completions is not possible; POST is."


async def test_an_empty_list_is_told_without_the_words_of_its_checker(gateway: Gateway) -> None:
    error = error_of(await gateway.http.post("/v1/chat/completions", json={"messages": []}))
    assert error["message"] == "`messages` must not be empty."


async def test_a_body_that_is_too_long_is_413(cluster: FakeCluster, text: Text) -> None:
    async def pieces() -> Any:
        for _ in range(30):
            yield b"x" * 100

    async with running(cluster, text, max_body_bytes=1024) as gateway:
        for body in ({"content": b'"' + b"x" * 2000 + b'"'}, {"content": pieces()}, {"content": b"x" * 20_000}):
            answer = await gateway.http.post("/v1/completions", **body)
            assert answer.status_code == 413
            assert error_of(answer)["code"] == "request_too_large"
        assert (await gateway.http.post("/v1/completions", json=COMPLETION | {"max_tokens": 1})).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_more_than_the_gateway_can_tell_is_429(cluster: FakeCluster, text: Text, stream: bool) -> None:
    async with running(cluster, text, max_concurrent_requests=2) as gateway:
        with gateway.front.seats(1):
            answer = await gateway.http.post("/v1/completions", json=COMPLETION | {"n": 2, "stream": stream})
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
        error = error_of(answer)
        assert error["code"] == "rate_limit_exceeded"
        assert error["message"] == "This gateway is full: it is giving 1 of at most 2 answers; this is for 2 more."
        assert "x-moonpool-decode" not in answer.headers
        assert gateway.front.told == 0
        assert (await gateway.http.post("/v1/completions", json=COMPLETION | {"n": 2})).status_code == 200


async def test_more_than_the_gateway_will_ever_give_at_a_time_is_400(cluster: FakeCluster, text: Text) -> None:
    async with running(cluster, text, max_concurrent_requests=2) as gateway:
        answer = await gateway.http.post("/v1/completions", json=COMPLETION | {"n": 3})
        assert answer.status_code == 400
        assert error_of(answer)["message"] == "The request is for 3 answers, and this gateway gives 2 at a time."


@pytest.mark.parametrize("stream", [False, True])
async def test_a_rejection_has_a_status_even_for_a_stream(gateway: Gateway, cluster: FakeCluster, stream: bool) -> None:
    for code, status in ((RejectionCode.OVERLOADED, 429), (RejectionCode.UNAVAILABLE, 503)):
        cluster.conductor.rejections = [Rejection(RequestId("r"), code, "Not now, friend.", 2.2)]
        answer = await gateway.http.post("/v1/completions", json=COMPLETION | {"stream": stream})
        assert answer.status_code == status
        assert answer.headers["retry-after"] == "3"
        assert answer.headers["retry-after-ms"] == "2200"
        assert error_of(answer)["message"] == "Not now, friend."


@pytest.mark.parametrize("stream", [False, True])
async def test_a_full_worker_is_429_when_there_is_no_other(
    gateway: Gateway, cluster: FakeCluster, stream: bool
) -> None:
    cluster.decode.faults = [Fault(code=grpc.StatusCode.RESOURCE_EXHAUSTED, sentence="the queue is full")]
    answer = await gateway.http.post("/v1/completions", json=COMPLETION | {"stream": stream})
    assert answer.status_code == 429
    assert error_of(answer)["message"] == "The queue is full."


async def test_what_a_worker_can_never_run_is_400_with_its_sentence(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.decode.faults = [
        Fault(code=grpc.StatusCode.INVALID_ARGUMENT, sentence="it needs more blocks than there are")
    ]
    answer = await gateway.http.post("/v1/completions", json=COMPLETION)
    assert answer.status_code == 400
    assert error_of(answer)["message"] == "It needs more blocks than there are."


async def test_a_client_s_request_id_comes_back_unless_it_is_none(gateway: Gateway) -> None:
    for given, kept in (("my-id-7", True), ("x" * 200, False), ("two words", False)):
        answer = await gateway.http.get("/live", headers={"x-request-id": given})
        assert (answer.headers["x-request-id"] == given) is kept


@pytest.mark.parametrize("stream", [False, True])
async def test_our_own_bugs_are_500_with_an_id_and_nothing_else(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(gateway.front.text, "encode", broken)
    answer = await gateway.http.post(
        "/v1/completions", json=COMPLETION | {"stream": stream}, headers={"x-request-id": "find-me"}
    )
    assert answer.status_code == 500
    assert "find-me" in error_of(answer)["message"]
    assert "secret" not in answer.text
    assert any("find-me" in record.getMessage() and record.exc_info for record in caplog.records)


async def test_an_empty_name_of_a_model_is_none(gateway: Gateway, cluster: FakeCluster) -> None:
    assert (await gateway.http.post("/v1/completions", json={"prompt": "a", "model": ""})).status_code == 200
