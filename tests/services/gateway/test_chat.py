"""Chat completions over HTTP: what clients get, streamed and whole."""

import json
from typing import Any

import pytest

from services.gateway.sampling_defaults import SamplingDefaults
from services.gateway.template import ChatTemplate
from services.gateway.text import Text
from services.gateway.toy_text import CHAT_TEMPLATE, VOCAB_SIZE, toy_tokenizer
from tests.services.gateway.conftest import Gateway, running
from tests.services.gateway.fakes.cluster import FakeCluster
from tests.services.gateway.fakes.worker import alphabet, letter

PROMPT = "<|im_start|>user\nhello<|im_end|><|im_start|>assistant\n"
ASK = {"model": "toy", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, "temperature": 0}


async def whole(gateway: Gateway, **fields: object) -> Any:
    answer = await gateway.http.post("/v1/chat/completions", json=ASK | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def streamed(gateway: Gateway, path: str = "/v1/chat/completions", **fields: object) -> list[Any]:
    """Every event's document; the last of them was followed by [DONE]."""
    answer = await gateway.http.post(path, json=ASK | {"stream": True} | fields)
    assert answer.status_code == 200, answer.text
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def said(chunks: list[Any], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content", "") for choice in choices)


async def test_a_whole_answer_has_the_shape_that_clients_know(gateway: Gateway, text: Text) -> None:
    document = await whole(gateway)
    prompt_tokens = len(text.encode(PROMPT))
    assert document.pop("id").startswith("chatcmpl-")
    assert isinstance(document.pop("created"), int)
    assert document.pop("system_fingerprint").startswith("moonpool-")
    assert document == {
        "object": "chat.completion",
        "model": "toy",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "abcde", "refusal": None},
                "logprobs": None,
                "finish_reason": "length",
                "stop_reason": None,
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": 5,
            "total_tokens": prompt_tokens + 5,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


async def test_a_stream_is_these_bytes(gateway: Gateway) -> None:
    answer = await gateway.http.post(
        "/v1/chat/completions",
        json=ASK | {"max_tokens": 2, "stream": True, "stream_options": {"include_usage": True}},
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    first = json.loads(answer.text.split("\n\n")[0].removeprefix("data: "))
    head = (
        f'data: {{"id":"{first["id"]}","object":"chat.completion.chunk","created":{first["created"]},"model":"toy",'
        f'"system_fingerprint":"{first["system_fingerprint"]}","choices":['
    )
    assert answer.text == (
        f'{head}{{"index":0,"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}],"usage":null}}\n\n'
        f'{head}{{"index":0,"delta":{{"content":"a"}},"logprobs":null,"finish_reason":null}}],"usage":null}}\n\n'
        f'{head}{{"index":0,"delta":{{"content":"b"}},"logprobs":null,"finish_reason":null}}],"usage":null}}\n\n'
        f'{head}{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"length","stop_reason":null}}],"usage":null}}\n\n'
        f'{head}],"usage":{{"prompt_tokens":23,"completion_tokens":2,"total_tokens":25,'
        '"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}\n\n'
        "data: [DONE]\n\n"
    )


async def test_without_being_asked_a_stream_tells_no_usage(gateway: Gateway) -> None:
    assert not any("usage" in chunk for chunk in await streamed(gateway))


async def test_a_stream_can_tell_its_usage_as_it_goes(gateway: Gateway) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = await streamed(gateway, stream_options=options, max_tokens=3)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk["usage"]]
    assert counts == [1, 2, 3, 3, 3]


async def test_the_prompt_is_the_template_s(gateway: Gateway, cluster: FakeCluster, text: Text) -> None:
    await whole(gateway)
    assert list(cluster.decode.decodes[0].prompt) == text.encode(PROMPT)


async def test_without_a_limit_an_answer_may_fill_the_context(gateway: Gateway, cluster: FakeCluster) -> None:
    document = await whole(gateway, max_tokens=None)
    assert document["usage"]["total_tokens"] == 512
    assert document["choices"][0]["finish_reason"] == "length"


async def test_max_completion_tokens_is_the_newer_name_and_wins(gateway: Gateway) -> None:
    assert (await whole(gateway, max_completion_tokens=3))["usage"]["completion_tokens"] == 3


async def test_the_end_token_ends_an_answer_and_is_not_seen(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.decode.token = lambda position: 256 if position == 2 else letter(position)
    for document in (await whole(gateway), (await streamed(gateway))[-1]):
        assert document["choices"][0]["finish_reason"] == "stop"
        assert document["choices"][0]["stop_reason"] is None
    document = await whole(gateway)
    assert document["choices"][0]["message"]["content"] == "ab"
    assert document["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("handed_over", [False, True])
async def test_an_end_token_may_come_first(gateway: Gateway, cluster: FakeCluster, handed_over: bool) -> None:
    cluster.conductor.hand_over = handed_over
    cluster.prefill.token = cluster.decode.token = lambda position: 256
    assert (await whole(gateway))["choices"][0]["message"]["content"] == ""
    chunks = await streamed(gateway)
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [{"role": "assistant", "content": ""}, {}]
    await cluster.at_rest()


async def test_the_end_token_can_be_ignored(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.decode.token = lambda position: 256 if position == 2 else letter(position)
    assert (await whole(gateway, ignore_eos=True))["choices"][0]["message"]["content"] == "abde"
    shown = await whole(gateway, ignore_eos=True, skip_special_tokens=False)
    assert shown["choices"][0]["message"]["content"] == "ab<|end|>de"


async def test_a_stop_token_of_the_request_is_named(gateway: Gateway) -> None:
    choice = (await whole(gateway, stop_token_ids=[ord("c")]))["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"], choice["stop_reason"]) == ("ab", "stop", ord("c"))
    shown = await whole(gateway, stop_token_ids=[ord("c")], include_stop_str_in_output=True)
    assert shown["choices"][0]["message"]["content"] == "abc"


@pytest.mark.parametrize(
    ("eos", "fields", "reason"),
    [
        ("c", {}, None),
        ("d", {}, ord("c")),
        ("c", {"stop_token_ids": [ord("c")]}, None),
        ("c", {"stop_token_ids": [ord("c")], "ignore_eos": True}, ord("c")),
    ],
)
async def test_an_end_token_is_named_unless_it_is_the_tokenizer_s_own(
    cluster: FakeCluster, eos: str, fields: dict[str, object], reason: int | None
) -> None:
    """As vLLM 0.32 has it (``check_stop``)."""
    template, ends = ChatTemplate(CHAT_TEMPLATE, {}), frozenset(map(ord, "cd"))
    text = Text(toy_tokenizer(), template=template, end_ids=ends, eos_id=ord(eos), vocab_size=VOCAB_SIZE)
    async with running(cluster, text) as gateway:
        choice = (await whole(gateway, **fields))["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"], choice["stop_reason"]) == ("ab", "stop", reason)


@pytest.mark.parametrize("stop", ["fgh", ["zz", "fgh"]])
@pytest.mark.parametrize("portion", [1, 4])
@pytest.mark.parametrize("handed_over", [False, True])
async def test_a_stop_string_ends_the_work_and_the_bill(
    gateway: Gateway, cluster: FakeCluster, stop: object, portion: int, handed_over: bool
) -> None:
    cluster.conductor.hand_over = handed_over
    cluster.decode.portion = portion
    cluster.decode.cached_tokens = cluster.prefill.cached_tokens = 16
    document = await whole(gateway, stop=stop, max_tokens=400)
    choice = document["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"], choice["stop_reason"]) == ("abcde", "stop", "fgh")
    assert document["usage"]["completion_tokens"] == 8
    assert document["usage"]["prompt_tokens_details"]["cached_tokens"] == 16
    chunks = await streamed(gateway, stop=stop, max_tokens=400)
    assert said(chunks) == "abcde"
    assert chunks[-1]["choices"][0]["stop_reason"] == "fgh"
    await cluster.at_rest()


async def test_a_stop_string_can_be_shown(gateway: Gateway) -> None:
    document = await whole(gateway, stop="cd", include_stop_str_in_output=True)
    assert document["choices"][0]["message"]["content"] == "abcd"


async def test_nothing_ends_before_min_tokens(gateway: Gateway, cluster: FakeCluster) -> None:
    document = await whole(gateway, stop=["b", "e"], min_tokens=3, max_tokens=20)
    assert document["choices"][0]["message"]["content"] == "abcd"
    assert cluster.decode.decodes[0].limits.min_tokens == 3


async def test_what_was_held_back_comes_at_the_end(gateway: Gateway) -> None:
    chunks = await streamed(gateway, stop="defz")
    assert said(chunks) == "abcde"


async def test_a_character_is_never_split_between_chunks(gateway: Gateway, cluster: FakeCluster) -> None:
    smiley = "\U0001f600".encode()
    cluster.decode.token = lambda position: smiley[position % 4]
    chunks = await streamed(gateway, max_tokens=9)
    texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert texts == ["", "\U0001f600", "\U0001f600", "\ufffd"]


async def test_choices_are_told_side_by_side(gateway: Gateway, cluster: FakeCluster) -> None:
    document = await whole(gateway, n=3, seed=7, temperature=1)
    assert [choice["index"] for choice in document["choices"]] == [0, 1, 2]
    assert document["usage"]["completion_tokens"] == 15
    assert document["usage"]["prompt_tokens"] == 23
    seeds = [decode.sampling.seed for decode in cluster.decode.decodes]
    assert seeds[0] == 7
    assert len(set(seeds)) == 3
    assert len({decode.request for decode in cluster.decode.decodes}) == 3
    chunks = await streamed(gateway, n=3)
    assert [said(chunks, index) for index in range(3)] == ["abcde"] * 3
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert reasons.count("length") == 3


async def test_the_same_seed_gives_the_same_seeds(gateway: Gateway, cluster: FakeCluster) -> None:
    for _ in range(2):
        await whole(gateway, n=2, seed=-2)
    seeds = [decode.sampling.seed for decode in cluster.decode.decodes]
    assert seeds[:2] == seeds[2:]


async def test_requests_without_a_seed_get_different_ones(gateway: Gateway, cluster: FakeCluster) -> None:
    for _ in range(2):
        await whole(gateway)
    first, second = (decode.sampling.seed for decode in cluster.decode.decodes)
    assert first != second


async def test_sampling_is_as_asked(gateway: Gateway, cluster: FakeCluster) -> None:
    await whole(gateway, temperature=0.7, top_p=0.9, top_k=-1, min_p=0.1)
    await whole(gateway, temperature=1e-9, top_k=5)
    await whole(gateway, temperature=None)
    asked = [decode.sampling for decode in cluster.decode.decodes]
    assert (asked[0].temperature, asked[0].top_p, asked[0].top_k, asked[0].min_p) == (0.7, 0.9, 0, 0.1)
    assert (asked[1].temperature, asked[1].top_k) == (0.0, 5)
    assert asked[2].temperature == 1.0


async def test_penalties_are_as_asked(gateway: Gateway, cluster: FakeCluster) -> None:
    await whole(gateway, repetition_penalty=1.3, presence_penalty=-2, frequency_penalty=0.5)
    await whole(gateway, repetition_penalty=None)
    asked = [decode.sampling for decode in cluster.decode.decodes]
    assert [(each.repetition_penalty, each.presence_penalty, each.frequency_penalty) for each in asked] == [
        (1.3, -2.0, 0.5),
        (1.0, 0.0, 0.0),
    ]


async def test_the_models_own_defaults_hold_until_a_request_says_otherwise(
    gateway: Gateway, cluster: FakeCluster, text: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = SamplingDefaults(0.5, 9, 0.8, min_p=0.05, repetition_penalty=1.2, max_new_tokens=3)
    monkeypatch.setattr(text, "defaults", defaults)
    await whole(gateway, temperature=None, max_tokens=None)
    await whole(gateway, temperature=0, top_k=0, top_p=1, min_p=0, repetition_penalty=1, max_tokens=5)
    own, asked = (decode.sampling for decode in cluster.decode.decodes)
    assert (own.temperature, own.top_k, own.top_p, own.min_p, own.repetition_penalty) == (0.5, 9, 0.8, 0.05, 1.2)
    assert (asked.temperature, asked.top_k, asked.top_p, asked.min_p, asked.repetition_penalty) == (0, 0, 1, 0, 1)
    assert [decode.limits.max_tokens for decode in cluster.decode.decodes] == [3, 5]


async def test_a_default_limit_beyond_the_context_is_what_is_left_of_it(
    gateway: Gateway, cluster: FakeCluster, text: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    await whole(gateway, max_tokens=None)
    monkeypatch.setattr(text, "defaults", SamplingDefaults(max_new_tokens=1_000_000))
    await whole(gateway, max_tokens=None)
    first, second = (decode.limits.max_tokens for decode in cluster.decode.decodes)
    assert first == second


async def test_a_salt_makes_other_names(gateway: Gateway, cluster: FakeCluster) -> None:
    for salt in (None, "one", "two"):
        await whole(gateway, cache_salt=salt)
    names = [ask.names for ask in cluster.conductor.asks]
    assert all(len(each) == 23 // 16 for each in names)
    assert len(set(names)) == 3
    assert len({decode.root for decode in cluster.decode.decodes}) == 3


async def test_another_identity_makes_other_names(cluster: FakeCluster, text: Text) -> None:
    async with running(cluster, text) as gateway:
        await whole(gateway)
        for worker in cluster.workers:
            worker.identity = worker.identity.__class__("toy", "ffff", "float32", 16, "abcd")
        cluster.conductor.identity = cluster.decode.identity
        await gateway.front.refresh()
        await whole(gateway)
    first, second = cluster.conductor.asks
    assert set(first.names).isdisjoint(second.names)


async def test_an_answer_says_who_gave_it(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.conductor.hand_over = True
    cluster.prefill.cached_tokens = 16
    for stream in (False, True):
        answer = await gateway.http.post("/v1/chat/completions", json=ASK | {"stream": stream})
        assert answer.headers["x-moonpool-prefill"] == "prefill-0"
        assert answer.headers["x-moonpool-decode"] == "decode-0"
        assert answer.headers["x-moonpool-cached-tokens"] == "16"
        assert answer.headers["x-moonpool-predicted-ttft-ms"] == "12.5"
    cluster.conductor.hand_over = False
    answer = await gateway.http.post("/v1/chat/completions", json=ASK)
    assert "x-moonpool-prefill" not in answer.headers


async def test_token_ids_can_be_had(gateway: Gateway, text: Text) -> None:
    document = await whole(gateway, return_token_ids=True, stop="de")
    assert document["prompt_token_ids"] == text.encode(PROMPT)
    assert document["choices"][0]["token_ids"] == list(b"abcde")
    chunks = await streamed(gateway, return_token_ids=True, stop="xyz")
    assert chunks[0]["prompt_token_ids"] == text.encode(PROMPT)
    assert [token for chunk in chunks for token in chunk["choices"][0].get("token_ids", [])] == list(b"abcde")


async def test_a_final_message_is_continued(gateway: Gateway, cluster: FakeCluster, text: Text) -> None:
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "It is"}]
    await whole(gateway, messages=messages, continue_final_message=True)
    prompt = text.decode(cluster.decode.decodes[0].prompt)
    assert prompt == "<|im_start|>user\nhello<|im_end|><|im_start|>assistant\nIt is"


async def test_text_is_told_in_the_alphabet_s_order_however_it_is_handed_over(
    gateway: Gateway, cluster: FakeCluster
) -> None:
    cluster.conductor.hand_over = True
    document = await whole(gateway, max_tokens=30)
    assert document["choices"][0]["message"]["content"] == alphabet(30)
    prefill, decode = cluster.prefill.prefills[0], cluster.decode.decodes[0]
    assert prefill.request == decode.request
    assert decode.handed_over
    assert list(decode.output) == []
    assert cluster.decode.firsts == [letter(0)]
    assert prefill.limits == decode.limits
