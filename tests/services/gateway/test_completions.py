"""Text completions over HTTP."""

import json
from typing import Any

import pytest

from services.gateway.text import Text
from services.gateway.toy_text import toy_tokenizer
from tests.services.gateway.conftest import Gateway, running
from tests.services.gateway.fakes.cluster import FakeCluster
from tests.services.gateway.fakes.worker import letter

ASK = {"model": "toy", "prompt": "once upon a time", "max_tokens": 5, "temperature": 0}


async def whole(gateway: Gateway, **fields: object) -> Any:
    answer = await gateway.http.post("/v1/completions", json=ASK | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def streamed(gateway: Gateway, **fields: object) -> list[Any]:
    answer = await gateway.http.post("/v1/completions", json=ASK | {"stream": True} | fields)
    assert answer.status_code == 200, answer.text
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


async def test_a_whole_answer_has_the_shape_that_clients_know(gateway: Gateway) -> None:
    document = await whole(gateway)
    assert document["id"].startswith("cmpl-")
    assert document["object"] == "text_completion"
    assert document["choices"] == [
        {"index": 0, "text": "abcde", "logprobs": None, "finish_reason": "length", "stop_reason": None}
    ]
    assert document["usage"]["prompt_tokens"] == 16
    assert document["usage"]["completion_tokens"] == 5


async def test_a_stream_is_these_bytes(gateway: Gateway) -> None:
    answer = await gateway.http.post("/v1/completions", json=ASK | {"max_tokens": 2, "stream": True})
    first = json.loads(answer.text.split("\n\n")[0].removeprefix("data: "))
    head = (
        f'data: {{"id":"{first["id"]}","object":"text_completion","created":{first["created"]},"model":"toy",'
        f'"system_fingerprint":"{first["system_fingerprint"]}","choices":['
    )
    assert answer.text == (
        f'{head}{{"index":0,"text":"a","logprobs":null,"finish_reason":null}}]}}\n\n'
        f'{head}{{"index":0,"text":"b","logprobs":null,"finish_reason":null}}]}}\n\n'
        f'{head}{{"index":0,"text":"","logprobs":null,"finish_reason":"length","stop_reason":null}}]}}\n\n'
        "data: [DONE]\n\n"
    )


async def test_16_tokens_are_given_where_no_number_is(gateway: Gateway) -> None:
    assert (await whole(gateway, max_tokens=None))["usage"]["completion_tokens"] == 16


async def test_the_default_is_no_wish_so_it_fits_whatever_room_is_left(gateway: Gateway) -> None:
    document = await whole(gateway, max_tokens=None, prompt=[1] * 510)
    assert document["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("abc", [b"abc"]), (["abc", "d"], [b"abc", b"d"]), ([1, 2, 300], [[1, 2, 300]]), ([[1], [2, 3]], [[1], [2, 3]])],
    ids=["text", "texts", "ids", "lists of ids"],
)
async def test_prompts_of_every_form(
    gateway: Gateway, cluster: FakeCluster, prompt: object, prompts: list[bytes | list[int]]
) -> None:
    document = await whole(gateway, prompt=prompt)
    assert sorted(list(decode.prompt) for decode in cluster.decode.decodes) == sorted(list(each) for each in prompts)
    assert [choice["index"] for choice in document["choices"]] == list(range(len(prompts)))
    assert document["usage"]["prompt_tokens"] == sum(map(len, prompts))


async def test_choices_of_one_prompt_stand_side_by_side(gateway: Gateway) -> None:
    document = await whole(gateway, prompt=["p", "q"], n=2, echo=True)
    assert [choice["text"] for choice in document["choices"]] == ["pabcde", "pabcde", "qabcde", "qabcde"]
    assert document["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": 20,
        "total_tokens": 22,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


async def test_an_echo_comes_first(gateway: Gateway) -> None:
    assert (await whole(gateway, echo=True))["choices"][0]["text"] == "once upon a timeabcde"
    texts = [chunk["choices"][0]["text"] for chunk in await streamed(gateway, echo=True)]
    assert texts[0] == "once upon a time"
    assert "".join(texts) == "once upon a timeabcde"


async def test_an_echo_of_ids_is_their_text(gateway: Gateway) -> None:
    assert (await whole(gateway, prompt=list(b"hi "), echo=True))["choices"][0]["text"] == "hi abcde"


async def test_an_echo_has_special_tokens_if_they_are_not_skipped(gateway: Gateway) -> None:
    fields = {"prompt": "<|im_start|>hi<|im_end|>", "echo": True, "skip_special_tokens": False}
    assert (await whole(gateway, **fields))["choices"][0]["text"] == "<|im_start|>hi<|im_end|>abcde"
    assert "".join(chunk["choices"][0]["text"] for chunk in await streamed(gateway, **fields)) == (
        "<|im_start|>hi<|im_end|>abcde"
    )


@pytest.mark.parametrize(("echo", "right"), [(True, "h\u20acbcde"), (False, "\u20acbcde")])
async def test_a_character_that_the_prompt_begins_is_told_once(
    gateway: Gateway, cluster: FakeCluster, echo: bool, right: str
) -> None:
    prompt = [*b"h", 0xE2, 0x82]
    cluster.prefill.token = cluster.decode.token = lambda position: 0xAC if position == 0 else letter(position)
    assert (await whole(gateway, prompt=prompt, echo=echo))["choices"][0]["text"] == right
    texts = [chunk["choices"][0]["text"] for chunk in await streamed(gateway, prompt=prompt, echo=echo)]
    assert "".join(texts) == right
    assert not any("\ufffd" in piece for piece in texts)


async def test_a_prompt_with_a_token_that_the_model_does_not_have_is_refused(cluster: FakeCluster) -> None:
    text = Text(toy_tokenizer(), template=None, end_ids=frozenset(), vocab_size=257)
    async with running(cluster, text) as gateway:
        answer = await gateway.http.post("/v1/completions", json=ASK | {"prompt": "hi<|im_end|>"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "`prompt` has token id 258, and this model's are 0 to 256."


async def test_token_ids_can_be_had(gateway: Gateway, text: Text) -> None:
    choice = (await whole(gateway, return_token_ids=True))["choices"][0]
    assert choice["prompt_token_ids"] == text.encode("once upon a time")
    assert choice["token_ids"] == list(b"abcde")
    chunks = await streamed(gateway, return_token_ids=True)
    assert chunks[0]["choices"][0]["prompt_token_ids"] == text.encode("once upon a time")
    assert [token for chunk in chunks for token in chunk["choices"][0].get("token_ids", [])] == list(b"abcde")


async def test_the_seed_of_a_single_choice_is_the_request_s(gateway: Gateway, cluster: FakeCluster) -> None:
    await whole(gateway, prompt=["p", "q"], seed=5)
    assert [decode.sampling.seed for decode in cluster.decode.decodes] == [5, 5]
