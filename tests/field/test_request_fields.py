"""Every field that servers of this kind take is done, has another name, changes nothing, or is refused by name."""

import json
import logging
from itertools import product
from typing import Any

import pytest

from kvstore.layout import Identity
from services.gateway.chat import chat_order
from services.gateway.errors import LONGEST_NAME, ApiError
from services.gateway.order import Deployment, Order
from services.gateway.parameters.aliases import ALIASES
from services.gateway.parameters.harmless import HARMLESS
from services.gateway.parameters.refused import REFUSED, REFUSED_OF_MESSAGES, REFUSED_OF_NVEXT, REFUSED_OF_TEMPLATES
from services.gateway.parameters.unknown import MOST_NAMES, UnknownFields
from services.gateway.schemas import Body, ChatBody, CompletionBody, TokenizeChatBody, TokenizePromptBody
from services.gateway.template import ChatTemplate
from services.gateway.text import Text, toy_text
from services.gateway.toy_text import toy_tokenizer
from services.gateway.unsupported import check_supported, unknown
from services.gateway.wishes import Wishes
from tests.field.request_fields import ASKING, NEUTRAL, NVEXT, SOURCES
from tests.services.gateway.bodies import completion_order, parse
from tests.services.gateway.conftest import Gateway as Running
from tests.services.gateway.conftest import cluster, gateway, running, text

__all__ = ["cluster", "gateway", "running", "text"]  # fixtures

HELLO = [{"role": "user", "content": "hello"}]
KINDS: dict[str, tuple[type[Body], dict[str, Any]]] = {
    "chat": (ChatBody, {"messages": HELLO}),
    "completions": (CompletionBody, {"prompt": "hello"}),
}
DEPLOYMENT = Deployment(Identity("toy", "0123", "float32", 16, "abcd"), 8192)


def supported(kind: str, **fields: object) -> Body:
    model, base = KINDS[kind]
    body = parse(model, json.dumps({**base, **fields}).encode())
    check_supported(body)
    return body


def refusal(kind: str, **fields: object) -> ApiError:
    with pytest.raises(ApiError) as error:
        supported(kind, **fields)
    assert error.value.status == 400
    return error.value


@pytest.mark.parametrize("source", SOURCES)
def test_every_field_of_a_server_has_a_place(source: str) -> None:
    declared = {*ChatBody.model_fields, *CompletionBody.model_fields}
    known = {*declared, *ALIASES, *HARMLESS, *REFUSED, "nvext"}
    assert [name for name in SOURCES[source].split() if name not in known] == []


def test_a_field_has_one_place() -> None:
    declared = {*ChatBody.model_fields, *CompletionBody.model_fields}
    places = [declared, set(ALIASES), HARMLESS, set(REFUSED)]
    for number, place in enumerate(places):
        assert not any(place & other for other in places[number + 1 :])


def test_every_field_with_a_place_is_of_a_server() -> None:
    sourced = {name for names in SOURCES.values() for name in names.split()}
    assert sorted({*ALIASES, *HARMLESS, *REFUSED} - sourced) == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_done_is_refused_by_name(name: str) -> None:
    with_penalty: dict[str, object] = {"repetition_penalty": 1.1} if name == "repeat_last_n" else {}
    for kind, value in product(KINDS, ASKING.get(name, ("something",))):
        error = refusal(kind, **{name: value}, **with_penalty)
        assert (error.param, error.code) == (name, "unsupported_parameter")
        assert error.message.startswith(f"`{name}` is not supported")


@pytest.mark.parametrize("name", REFUSED)
def test_what_asks_for_nothing_is_let_pass(name: str) -> None:
    for kind, value in product(KINDS, (None, *NEUTRAL.get(name, ()))):
        supported(kind, **{name: value})


@pytest.mark.parametrize("kind", KINDS)
def test_what_changes_nothing_is_let_pass_without_a_word(kind: str) -> None:
    values: tuple[object, ...] = (True, False, 0, 7, "something", [], {}, None)
    for value in values:
        assert unknown(supported(kind, **dict.fromkeys(HARMLESS, value))) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alias", ALIASES)
def test_another_name_means_the_same(alias: str, kind: str) -> None:
    name, value = ALIASES[alias], 2
    body = supported(kind, **{alias: value})
    assert getattr(body, name) == value
    assert unknown(body) == []
    assert supported(kind, **{alias: value, name: value}) == supported(kind, **{name: value})
    assert supported(kind, **{alias: None, name: value}) == supported(kind, **{name: value})
    assert getattr(supported(kind, **{alias: value, name: None}), name) == value


@pytest.mark.parametrize("alias", ALIASES)
def test_two_names_with_two_values_are_refused(alias: str) -> None:
    error = refusal("chat", **{alias: 2, ALIASES[alias]: 3})
    assert error.param == alias
    assert error.message == f"`{alias}` and `{ALIASES[alias]}` mean the same and differ."


def test_two_other_names_with_two_values_are_refused() -> None:
    error = refusal("chat", max_new_tokens=2, n_predict=3)
    assert "`max_new_tokens`" in error.message
    assert "`n_predict`" in error.message


@pytest.mark.parametrize("alias", ALIASES)
def test_a_mistake_is_told_under_the_name_that_was_sent(alias: str) -> None:
    error = refusal("chat", **{alias: "two"})
    assert error.param == alias
    assert error.message.startswith(f"`{alias}` must be ")


def order(kind: str, **fields: object) -> Order:
    return order_with(toy_text(), kind, **fields)


def order_with(side: Text, kind: str, **fields: object) -> Order:
    body = supported(kind, **fields)
    if isinstance(body, ChatBody):
        return chat_order(body, side, Wishes(), DEPLOYMENT)
    assert isinstance(body, CompletionBody)
    return completion_order(body, side, Wishes(), DEPLOYMENT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_new_tokens", "n_predict"])
def test_a_limit_holds_under_each_of_its_names(name: str, kind: str) -> None:
    assert order(kind, **{name: 5}).choices[0].limits.max_tokens == 5
    with pytest.raises(ApiError) as error:
        order(kind, **{name: 8192})
    assert error.value.code == "context_length_exceeded"


@pytest.mark.parametrize("kind", KINDS)
def test_the_newer_limit_wins(kind: str) -> None:
    assert order(kind, max_tokens=5, max_completion_tokens=3).choices[0].limits.max_tokens == 3


def test_a_repeat_penalty_is_a_repetition_penalty() -> None:
    """Of a window over the whole sequence, as there is no other."""
    assert order("chat", repeat_penalty=1.3).choices[0].sampling.repetition_penalty == 1.3
    assert order("chat", repeat_penalty=1.0, repeat_last_n=64).choices[0].sampling.repetition_penalty == 1.0
    assert refusal("chat", repeat_penalty=1.3, repeat_last_n=64).param == "repeat_last_n"
    assert order("chat", repeat_penalty=1.3, repeat_last_n=-1).choices[0].sampling.repetition_penalty == 1.3


@pytest.mark.parametrize(
    ("kind", "name", "value", "path"),
    [
        ("chat", "echo", True, "/v1/completions"),
        ("chat", "prompt", "hello", "/v1/completions"),
        ("completions", "messages", HELLO, "/v1/chat/completions"),
        ("completions", "add_generation_prompt", True, "/v1/chat/completions"),
        ("completions", "continue_final_message", True, "/v1/chat/completions"),
        ("completions", "chat_template_kwargs", {"a": 1}, "/v1/chat/completions"),
        ("completions", "enable_thinking", True, "/v1/chat/completions"),
        ("completions", "reasoning_effort", "low", "/v1/chat/completions"),
    ],
)
def test_a_field_of_the_other_endpoint_is_refused(kind: str, name: str, value: object, path: str) -> None:
    error = refusal(kind, **{name: value})
    assert error.message == f"`{name}` is not supported here: it is a field of {path}."
    nothings: tuple[object, ...] = (None, False, "", [], {})
    for nothing in nothings:
        supported(kind, **{name: nothing})


@pytest.mark.parametrize("name", NVEXT.split())
def test_extensions_of_dynamo_are_refused_or_change_nothing(name: str) -> None:
    if name not in REFUSED_OF_NVEXT:
        supported("chat", nvext={name: [1]})
        return
    error = refusal("chat", nvext={name: [1]})
    assert error.param == f"nvext.{name}"
    supported("chat", nvext={name: None})


@pytest.mark.parametrize(
    ("name", "value"), [("repetition_penalty", 1.0), ("top_k", -1), ("ignore_eos", False), ("guided_json", None)]
)
def test_extensions_of_dynamo_that_ask_for_nothing_are_let_pass(name: str, value: object) -> None:
    supported("chat", nvext={name: value})
    assert refusal("chat", nvext={name: 5}).param == f"nvext.{name}"


@pytest.mark.parametrize("value", [True, 0, "use_raw_prompt", [], [{"use_raw_prompt": True}]])
def test_extensions_of_dynamo_are_an_object(value: object) -> None:
    assert refusal("chat", nvext=value).message == "`nvext` must be an object."


@pytest.mark.parametrize("name", ["seed", "random_seed", "sampling_seed"])
def test_a_seed_of_minus_one_is_a_random_one(name: str) -> None:
    """As vLLM 0.32 (SamplingParams) and llama.cpp (LLAMA_DEFAULT_SEED) have it."""
    first, second = (order("completions", **{name: -1}).choices[0].sampling.seed for _ in range(2))
    assert first != second


def test_autocompletion_sends_more_stops_than_openai_takes() -> None:
    """Continue (core/llm/llms/OpenAI.ts, getMaxStopWords) cuts its list for OpenAI's own server and a few others only:
    a coding model's special tokens, ends of lines, its language's keywords."""
    special = ["endoftext", "fim_prefix", "fim_middle", "fim_suffix", "fim_pad", "repo_name", "file_sep", "im_start"]
    keywords = ["function", "class", "module", "export", "import"]
    stops = [f"<|{each}|>" for each in special] + ["/src/", "#- coding: utf-8", "```", "\n\n", "\r\n\r\n"]
    stops += [f"\n{each}" for each in keywords]
    assert order("completions", stop=stops).telling.wording.stops == tuple(stops)


@pytest.mark.parametrize("name", REFUSED_OF_TEMPLATES)
def test_variables_of_the_template_never_stand_for_fields(name: str) -> None:
    assert refusal("chat", chat_template_kwargs={name: [1]}).param == f"chat_template_kwargs.{name}"


@pytest.mark.parametrize("name", REFUSED_OF_MESSAGES)
def test_what_a_message_asks_for_and_is_not_done_is_refused(name: str) -> None:
    messages = [*HELLO, {"role": "assistant", "content": "h", name: True}]
    assert refusal("chat", messages=messages).param == f"messages[1].{name}"
    supported("chat", messages=[*HELLO, {"role": "assistant", "content": "h", name: None}])


@pytest.mark.parametrize(
    ("kind", "body", "param"),
    [
        (TokenizeChatBody, {"messages": HELLO, "tools": [{"type": "function"}]}, "tools"),
        (TokenizeChatBody, {"messages": HELLO, "chat_template": "{{ 1 }}"}, "chat_template"),
        (TokenizeChatBody, {"messages": [{**HELLO[0], "images": ["a"]}]}, "messages[0].images"),
        (TokenizePromptBody, {"prompt": "a", "truncate_prompt_tokens": 1}, "truncate_prompt_tokens"),
        (TokenizePromptBody, {"prompt": "a", "logprobs": 1, "grammar": "a"}, None),
        (TokenizeChatBody, {"messages": HELLO, "response_format": {"type": "json_object"}}, None),
    ],
)
def test_tokenizing_refuses_what_would_change_the_prompt(kind: type[Body], body: dict[str, Any], param: object) -> None:
    parsed = parse(kind, json.dumps(body).encode())
    if param is None:
        check_supported(parsed)
        return
    with pytest.raises(ApiError) as error:
        check_supported(parsed)
    assert error.value.param == param


THINKING = ChatTemplate("{% if enable_thinking %}think{% else %}answer{% endif %}", {})
EFFORT = ChatTemplate("{{ reasoning_effort }}", {})
KIMI = ChatTemplate("{% if thinking %}think{% else %}answer{% endif %}", {})


@pytest.mark.parametrize(
    ("template", "fields", "prompt"),
    [
        (THINKING, {"reasoning_effort": "low"}, "think"),
        (THINKING, {"reasoning_effort": "none"}, "answer"),
        (THINKING, {"enable_thinking": True}, "think"),
        (THINKING, {"enable_thinking": False}, "answer"),
        (THINKING, {"chat_template_kwargs": {"enable_thinking": True}}, "think"),
        (THINKING, {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}}, "answer"),
        (EFFORT, {"reasoning_effort": "high"}, "high"),
        (KIMI, {"reasoning_effort": "high"}, "think"),
        (KIMI, {"reasoning_effort": "none"}, "answer"),
    ],
)
def test_reasoning_effort_reaches_the_template(template: ChatTemplate, fields: dict[str, Any], prompt: str) -> None:
    """As vLLM (build_chat_params) and SGLang (normalize_reasoning_inputs) hand it on."""
    side = Text(toy_tokenizer(), template=template, end_ids=frozenset({256}))
    made = order_with(side, "chat", **fields).choices[0].prompt
    assert side.decode(made) == prompt


@pytest.mark.parametrize(("name", "value"), [("reasoning_effort", "low"), ("enable_thinking", True)])
def test_thinking_that_the_template_has_no_say_in_is_refused(name: str, value: object) -> None:
    with pytest.raises(ApiError) as error:
        order("chat", **{name: value})
    assert error.value.message == f"`{name}` is not supported: this model's chat template does not read it."
    assert order("chat", reasoning_effort="none", enable_thinking=None).choices


def test_unknown_fields_are_found_wherever_they_stand() -> None:
    body = supported(
        "chat", foo=1, bar=None, stream=True, stream_options={"include_usage": True, "baz": 1, "include_obfuscation": 0}
    )
    assert unknown(body) == ["foo", "stream_options.baz"]
    kwargs = supported("chat", chat_template_kwargs={"read": 1, "unread": 2})
    assert unknown(kwargs, {"read"}) == ["chat_template_kwargs.unread"]


def test_an_unknown_field_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    met = UnknownFields()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            met.met(["foo", "x" * 1_000_000, "a\x1b[2J\n"], "/v1/completions")
    said = [record.fields["field"] for record in caplog.records]  # type: ignore[attr-defined]
    assert said == ["foo", "x" * LONGEST_NAME + "...", "a\\x1b[2J\\n"]


def test_unknown_names_have_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    met = UnknownFields()
    with caplog.at_level(logging.WARNING):
        met.met(map(str, range(10 * MOST_NAMES)), "/v1/completions")
    assert len(caplog.records) == len(met.said) == MOST_NAMES


@pytest.mark.parametrize(
    ("path", "base"), [("/v1/chat/completions", {"messages": HELLO}), ("/v1/completions", {"prompt": "hello"})]
)
async def test_clients_are_told(gateway: Running, path: str, base: dict[str, Any]) -> None:
    for name, value in (("regex", "a+"), ("mirostat", 2), ("nvext", {"greed_sampling": True})):
        answer = await gateway.http.post(path, json=base | {name: value})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_parameter")
    fine = base | {"max_completion_tokens": 3, "user": "u", "store": False, "foo": 1, "mirostat": 0}
    answer = await gateway.http.post(path, json=fine)
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] <= 3
    assert gateway.front.unknown_fields.said == {"foo"}


async def test_tokenizing_refuses_tools(gateway: Running) -> None:
    answer = await gateway.http.post("/tokenize", json={"messages": HELLO, "tools": [{"type": "function"}]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools")
