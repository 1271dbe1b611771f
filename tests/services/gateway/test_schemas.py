"""Bodies: each mistake is told by the name of its field, and what is no mistake is let pass."""

import json
from typing import Any

import pytest

from services.gateway.errors import ApiError
from services.gateway.schemas import ChatBody, CompletionBody
from services.gateway.unsupported import REFUSED, refused
from tests.services.gateway.bodies import parse

HELLO = [{"role": "user", "content": "hello"}]


def chat(**fields: object) -> ChatBody:
    return parse(ChatBody, json.dumps({"messages": HELLO, **fields}).encode())


def told(kind: type[Any], raw: bytes) -> ApiError:
    with pytest.raises(ApiError) as error:
        parse(kind, raw)
    assert error.value.status == 400
    return error.value


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("messages", [], "messages"),
        ("messages", None, "messages"),
        ("messages", "hello", "messages"),
        ("messages", [1], "messages[0]"),
        ("messages", [{"content": "x"}], "messages[0].role"),
        ("messages", [{"role": "wizard", "content": "x"}], "messages[0].role"),
        ("messages", [*HELLO, {"role": "user", "content": 7}], "messages[1].content"),
        ("messages", [{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content"),
        ("messages", [{"role": "user", "content": [{"type": "text"}]}], "messages[0].content"),
        ("model", 7, "model"),
        ("max_tokens", -1, "max_tokens"),
        ("max_tokens", 0, "max_tokens"),
        ("max_tokens", 1.5, "max_tokens"),
        ("max_tokens", "5", "max_tokens"),
        ("max_tokens", True, "max_tokens"),
        ("max_completion_tokens", 0, "max_completion_tokens"),
        ("min_tokens", -1, "min_tokens"),
        ("temperature", "warm", "temperature"),
        ("temperature", -0.1, "temperature"),
        ("temperature", float("nan"), "temperature"),
        ("temperature", float("inf"), "temperature"),
        ("top_p", 0, "top_p"),
        ("top_p", 1.1, "top_p"),
        ("top_k", -2, "top_k"),
        ("min_p", 2, "min_p"),
        ("repetition_penalty", 0, "repetition_penalty"),
        ("presence_penalty", 2.5, "presence_penalty"),
        ("frequency_penalty", -3, "frequency_penalty"),
        ("n", 0, "n"),
        ("n", 129, "n"),
        ("seed", "lucky", "seed"),
        ("seed", 1 << 64, "seed"),
        ("stop", 7, "stop"),
        ("stop", "", "stop"),
        ("stop", ["a", 7], "stop"),
        ("stop", ["x"] * 65, "stop"),
        ("stop", ["x" * 1024] * 17, "stop"),
        ("stop", ["x" * 1025], "stop"),
        ("stop_token_ids", ["a"], "stop_token_ids[0]"),
        ("stream", "yes", "stream"),
        ("stream_options", [], "stream_options"),
        ("stream_options", {"include_usage": 1}, "stream_options.include_usage"),
        ("ignore_eos", "no", "ignore_eos"),
        ("cache_salt", "", "cache_salt"),
        ("chat_template_kwargs", [], "chat_template_kwargs"),
        ("slo", 5, "slo"),
        ("slo", {"ttft_ms": 0}, "slo.ttft_ms"),
        ("slo", {"ttft_ms": "5"}, "slo.ttft_ms"),
        ("slo", {"tpot_ms": -1}, "slo.tpot_ms"),
        ("slo", {"tpot_ms": 1e300}, "slo.tpot_ms"),
        ("slo", {"tpot_ms": float("nan")}, "slo.tpot_ms"),
        ("slo", {"ttft": 5}, "slo.ttft"),
        ("priority", "urgent", "priority"),
        ("priority", "1", "priority"),
        ("priority", True, "priority"),
        ("priority", 0.5, "priority"),
        ("priority", [], "priority"),
    ],
)
def test_a_mistake_names_its_field(field: str, value: object, param: str) -> None:
    error = told(ChatBody, json.dumps({"messages": HELLO, field: value}).encode())
    assert error.param == param
    assert f"`{param}`" in error.message


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            '"seed": 18446744073709551616',
            "must be an integer from -9223372036854775808 to 18446744073709551615, not 18446744073709551616",
        ),
        ('"seed": 1e300', "must be an integer from -9223372036854775808 to 18446744073709551615, not 1e+300"),
        ('"seed": true', "must be an integer from -9223372036854775808 to 18446744073709551615, not true"),
        (
            '"max_tokens": 1' + 99 * "0",
            "must be an integer from 1 to 9223372036854775807, "
            "not 10000000000000000000...00000000, which has 100 characters",
        ),
        ('"max_tokens": 1.5', "must be an integer from 1 to 9223372036854775807, not 1.5"),
        ('"n": 129', "must be an integer from 1 to 128, not 129"),
        ('"top_k": 2147483648', "must be an integer from -1 to 2147483647, not 2147483648"),
        ('"top_p": 0', "must be a number above 0 and up to 1, not 0"),
        ('"top_p": 1.0000001', "must be a number above 0 and up to 1, not 1.0000001"),
        ('"min_p": -0.5', "must be a number from 0 to 1, not -0.5"),
        ('"temperature": -1e-300', "must be a number of at least 0, not -1e-300"),
        ('"temperature": NaN', "must be a number of at least 0, not NaN"),
        ('"temperature": 1' + 400 * "0", None),
        ('"temperature": "hot"', 'must be a number of at least 0, not "hot"'),
        ('"stop": "' + 1025 * "x" + '"', "must be strings of at most 1024 characters, not 1025"),
        ('"stop": ["' + '", "'.join(17 * [1000 * "x"]) + '"]', "must have at most 16384 characters in all, not 17000"),
        ('"stream": null, "stream_options": {"include_usage": 1}', "must be true or false, not 1"),
        ('"messages": null', "is required"),
        ('"messages": "hi"', 'must be a list, not "hi"'),
        ('"model": ' + json.dumps(["x"]), "must be a string"),
        ('"slo": {"ttft_ms": 1e10}', "must be a number from 0.001 to 1000000000, not 10000000000.0"),
        ('"slo": {"ttft": 1}', "is unknown; there are ttft_ms, tpot_ms"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_is_told_with_its_exact_bounds_and_what_was_sent(given: str, said: str | None) -> None:
    error = told(ChatBody, f'{{"messages": {json.dumps(HELLO)}, {given}}}'.encode())
    assert error.param is not None
    if said is not None:
        assert error.message == f"`{error.param}` {said}."
    assert len(error.message) < 200


@pytest.mark.parametrize(
    ("prompt", "what"),
    [
        (None, "null"),
        (5, "5"),
        ({}, "an object"),
        ([], "an empty list"),
        ([1.5], "a list with 1.5"),
        ([[1], [2.5]], "a list with 2.5"),
        ([True], "a list with true"),
        (["a", 1], "a mixture of them"),
        ([{"type": "text"}], "a list with an object"),
    ],
)
def test_what_is_no_prompt_is_named(prompt: object, what: str) -> None:
    error = told(CompletionBody, json.dumps({"prompt": prompt}).encode())
    assert error.message.startswith("`prompt` must be a string, a list of strings, a list of token ids, or ")
    assert error.message.endswith(f", not {what}.")


def test_whole_floats_are_integers() -> None:
    assert chat(max_tokens=3.0, seed=-7.0).max_tokens == 3
    assert chat(top_k=5.0).top_k == 5


def test_the_description_has_the_same_bounds() -> None:
    """Where they are exact, too: 2^64 - 1 is no float."""
    properties = ChatBody.model_json_schema()["properties"]
    seed, top_p = properties["seed"]["anyOf"][0], properties["top_p"]["anyOf"][0]
    assert (seed["minimum"], seed["maximum"]) == (-(1 << 63), (1 << 64) - 1)
    assert (top_p["exclusiveMinimum"], top_p["maximum"]) == (0, 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"\xff",
        b'{"messages": [}',
        b"[" * 100_000,
        b'{"messages": "\\ud800"}',
    ],
    ids=["cut off", "no text", "wrong bracket", "too deep", "half a surrogate"],
)
def test_what_is_no_json_is_told_as_such(raw: bytes) -> None:
    error = told(ChatBody, raw)
    assert error.param is None
    assert "not valid JSON" in error.message


@pytest.mark.parametrize("raw", [b"", b" \n", b"[]", b"null", b"7", b'"messages"'])
def test_json_that_is_no_object_is_told_as_such(raw: bytes) -> None:
    assert "JSON object" in told(ChatBody, raw).message


def test_a_missing_field_is_called_required() -> None:
    assert told(ChatBody, b"{}").message == "`messages` is required."
    assert told(CompletionBody, b"{}").message == "`prompt` is required."


def test_a_conversation_is_not_repeated_in_its_error() -> None:
    secret = "my secret " * 10
    error = told(ChatBody, json.dumps({"messages": [{"role": secret, "content": secret}]}).encode())
    assert "secret" not in error.message


def test_null_means_not_given() -> None:
    body = chat(**dict.fromkeys(ChatBody.model_fields.keys() - {"messages"}))
    assert body == chat()


def test_a_whole_number_may_be_written_as_a_fraction() -> None:
    assert chat(max_tokens=5.0).max_tokens == 5


def test_unknown_fields_are_let_pass() -> None:
    body = chat(metadata={"a": 1}, store=False, some_new_thing=[1, 2])
    assert refused(body.model_extra or {}) is None


def test_parts_of_text_become_lines() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert chat(messages=[{"role": "user", "content": parts}]).messages[0].content == "one\ntwo"


@pytest.mark.parametrize("content", [{"content": None}, {}])
def test_a_message_may_have_no_content(content: dict[str, None]) -> None:
    assert chat(messages=[{"role": "assistant", **content}]).messages[0].content is None


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]]), ("", [""])],
)
def test_a_prompt_is_text_or_ids_one_or_several(prompt: object, prompts: list[object]) -> None:
    assert parse(CompletionBody, json.dumps({"prompt": prompt}).encode()).prompt == prompts


@pytest.mark.parametrize("prompt", [None, 7, [], ["a", 1], [1, "a"], [1.5], [True], [[1], ["a"]], {"a": 1}])
def test_a_prompt_is_nothing_else(prompt: object) -> None:
    assert told(CompletionBody, json.dumps({"prompt": prompt}).encode()).param == "prompt"


NEUTRAL: dict[str, list[object]] = {
    "length_penalty": [1.0],
    "best_of": [0, 1],
    "logprobs": [False],
    "top_logprobs": [0],
    "prompt_logprobs": [False],
    "logit_bias": [{}],
    "tools": [[]],
    "tool_choice": ["none", "auto"],
    "response_format": [{"type": "text"}],
    "modalities": [["text"]],
    "suffix": [""],
    "use_beam_search": [False],
    "echo": [],
}
ASKING: dict[str, list[object]] = {
    "length_penalty": [2],
    "best_of": [2],
    "logprobs": [True, 0, 5],
    "top_logprobs": [3],
    "prompt_logprobs": [0, 1],
    "logit_bias": [{"50": 1}],
    "tools": [[{"type": "function"}]],
    "functions": [[{}]],
    "tool_choice": ["required", {"type": "function"}],
    "function_call": [{"name": "f"}],
    "response_format": [{"type": "json_object"}, {"type": "json_schema"}, "json", {}],
    "modalities": [["text", "audio"]],
    "suffix": ["end"],
    "use_beam_search": [True],
    "truncate_prompt_tokens": [5],
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_supported_is_refused_by_name(name: str) -> None:
    for value in ASKING.get(name, ["something"]):
        error = refused({"user": "u", name: value})
        assert error is not None, value
        assert (error.status, error.param) == (400, name)
        assert error.message.startswith(f"`{name}` is not supported")


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_values_that_ask_for_nothing_are_let_pass(name: str) -> None:
    for value in [None, *NEUTRAL.get(name, [])]:
        assert refused({name: value}) is None, value


def test_tools_that_may_not_be_called_change_nothing() -> None:
    assert refused({"tools": [{"type": "function"}], "tool_choice": "none"}) is None
