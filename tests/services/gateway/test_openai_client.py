"""The openai client is the judge of what OpenAI's surface is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import openai
import pytest

from scheduler.vocabulary import Rejection, RejectionCode, RequestId
from services.gateway.toy_text import END_ID
from tests.services.gateway.conftest import Gateway
from tests.services.gateway.fakes.cluster import FakeCluster
from tests.services.gateway.fakes.worker import Fault, alphabet, letter

HELLO: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    http = openai.DefaultAsyncHttpxClient(trust_env=False, verify=False)
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, http_client=http
    ) as made:
        yield made


async def test_a_whole_chat(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="toy", messages=HELLO, max_tokens=5)
    assert answer.choices[0].message.content == "abcde"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert answer._request_id


async def test_a_streamed_chat(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="toy", messages=HELLO, max_completion_tokens=5, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "abcde"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices] == [None] * 6 + ["length"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5


async def test_the_client_s_own_stream_helper(client: openai.AsyncOpenAI, cluster: FakeCluster) -> None:
    cluster.decode.token = lambda position: END_ID if position == 5 else letter(position)
    async with client.chat.completions.stream(model="toy", messages=HELLO) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "abcde"


async def test_several_choices(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="toy", messages=HELLO, max_tokens=3, n=3)
    assert [choice.message.content for choice in answer.choices] == ["abc"] * 3


async def test_text_completions(client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(model="toy", prompt=["a", "b"], max_tokens=30)
    assert [choice.text for choice in whole.choices] == [alphabet(30)] * 2
    stream = await client.completions.create(model="toy", prompt=[1, 2, 3], max_tokens=30, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == alphabet(30)


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id for model in (await client.models.list()).data] == ["toy"]
    assert (await client.models.retrieve("toy")).id == "toy"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-9")


async def test_headers_can_be_read(client: openai.AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="toy", messages=HELLO, max_tokens=1)
    assert raw.headers["x-moonpool-decode"] == "decode-0"
    assert raw.parse().choices[0].message.content == "a"


async def test_errors_are_the_client_s_exceptions(client: openai.AsyncOpenAI, cluster: FakeCluster) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model="toy", messages=[], max_tokens=1)
    assert bad.value.param == "messages"
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="gpt-9", messages=HELLO)
    assert missing.value.code == "model_not_found"
    cluster.conductor.rejections = [
        Rejection(RequestId("r"), RejectionCode.OVERLOADED, "Full.", 1.0),
        Rejection(RequestId("r"), RejectionCode.UNAVAILABLE, "Nobody.", 1.0),
    ]
    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(model="toy", messages=HELLO)
    with pytest.raises(openai.InternalServerError) as nobody:
        await client.chat.completions.create(model="toy", messages=HELLO)
    assert nobody.value.status_code == 503


async def test_a_retry_after_is_obeyed(client: openai.AsyncOpenAI, cluster: FakeCluster) -> None:
    cluster.conductor.rejections = [Rejection(RequestId("r"), RejectionCode.OVERLOADED, "Full.", 0.001)]
    patient = client.with_options(max_retries=1)
    answer = await patient.chat.completions.create(model="toy", messages=HELLO, max_tokens=1)
    assert answer.choices[0].message.content == "a"


async def test_what_would_be_refused_by_an_idle_cluster_is_not_asked_again(
    client: openai.AsyncOpenAI, cluster: FakeCluster
) -> None:
    """The client obeys a Retry-After of up to two minutes, twice."""
    hopeless = Rejection(RequestId("r"), RejectionCode.UNATTAINABLE, "too late", 60.0, futile=True)
    cluster.conductor.rejections = [hopeless]
    with pytest.raises(openai.RateLimitError) as refused:
        await client.with_options(max_retries=2).chat.completions.create(model="toy", messages=HELLO)
    assert refused.value.response.headers["retry-after"] == "60"
    assert len(cluster.conductor.asks) == 1


async def test_a_stream_that_breaks_raises_and_does_not_just_end(
    client: openai.AsyncOpenAI, cluster: FakeCluster
) -> None:
    cluster.decode.faults = [Fault(after=3, code=grpc.StatusCode.UNAVAILABLE)]
    stream = await client.chat.completions.create(model="toy", messages=HELLO, stream=True)
    chunks = aiter(stream)
    text = "".join([(await anext(chunks)).choices[0].delta.content or "" for _ in range(4)])
    assert text == "abc"
    with pytest.raises(openai.APIError, match=r"the worker is gone|No worker"):
        await anext(chunks)


async def test_a_stream_that_is_closed_frees_its_worker(client: openai.AsyncOpenAI, cluster: FakeCluster) -> None:
    cluster.decode.faults = [Fault(after=3, hold=True)]
    stream = await client.chat.completions.create(model="toy", messages=HELLO, stream=True)
    await anext(aiter(stream))
    await stream.close()
    await cluster.at_rest()


async def test_choices_of_a_stream_are_told_apart_by_their_index(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="toy", messages=HELLO, max_tokens=3, n=2, stream=True)
    texts, reasons = {0: "", 1: ""}, {}
    async for chunk in stream:
        choice = chunk.choices[0]
        texts[choice.index] += choice.delta.content or ""
        reasons[choice.index] = choice.finish_reason
    assert (texts, reasons) == ({0: "abc", 1: "abc"}, {0: "length", 1: "length"})


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_string_is_neither_sent_nor_the_end_of_the_count(client: openai.AsyncOpenAI, stream: bool) -> None:
    if stream:
        chunks = await client.chat.completions.create(model="toy", messages=HELLO, stop="ef", stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in chunks]) == "abcd"
        return
    answer = await client.chat.completions.create(model="toy", messages=HELLO, stop=["x", "ef"])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("abcd", "stop")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "`tools` is not supported: answers are text"),
        ({"logprobs": True}, "`logprobs` is not supported: answers come without probabilities"),
        ({"response_format": {"type": "json_object"}}, "`response_format` is not supported other than text"),
    ],
    ids=["tools", "logprobs", "response_format"],
)
async def test_what_is_not_supported_is_refused_in_a_sentence(
    client: openai.AsyncOpenAI, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=said) as refused:
        await client.chat.completions.create(model="toy", messages=HELLO, **asked)
    assert refused.value.code == "unsupported_parameter"


async def test_a_client_whose_time_is_up_frees_its_worker(client: openai.AsyncOpenAI, cluster: FakeCluster) -> None:
    cluster.decode.gate.clear()
    impatient = client.with_options(timeout=0.2)
    with pytest.raises(openai.APITimeoutError):
        await impatient.chat.completions.create(model="toy", messages=HELLO)
    await cluster.at_rest()


@pytest.mark.parametrize("way", ["embeddings", "responses", "files"])
async def test_endpoints_that_are_not_there_are_the_client_s_not_found(client: openai.AsyncOpenAI, way: str) -> None:
    ways: dict[str, Callable[[], Awaitable[Any]]] = {
        "embeddings": lambda: client.embeddings.create(model="toy", input="x"),
        "responses": lambda: client.responses.create(model="toy", input="x"),
        "files": lambda: client.files.retrieve("x"),
    }
    with pytest.raises(openai.NotFoundError) as missing:
        await ways[way]()
    assert missing.value.code == "not_found"


async def test_the_synchronous_client(gateway: Gateway) -> None:
    def ask() -> tuple[str | None, str]:
        http = openai.DefaultHttpxClient(trust_env=False, verify=False)
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, http_client=http) as client:
            whole = client.chat.completions.create(model="toy", messages=HELLO, max_tokens=5)
            stream = client.chat.completions.create(model="toy", messages=HELLO, max_tokens=5, stream=True)
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        return whole.choices[0].message.content, streamed

    assert await asyncio.to_thread(ask) == ("abcde", "abcde")
