"""Tool calls of a conversation's history, as templates get them.

The right values are what vLLM 0.32 gives to templates (``renderers/chat_utils.py``, ``_postprocess_messages``).
"""

import json
from typing import Any

import pytest

from services.gateway.chat import conversation_tokens
from services.gateway.errors import ApiError
from services.gateway.schemas import TokenizeChatBody
from services.gateway.template import ChatTemplate
from services.gateway.text import Text
from services.gateway.toy_text import END_ID, toy_tokenizer
from tests.services.gateway.bodies import parse

# The two constructs that models' templates have: Qwen2.5, Qwen3, Llama 3.1 apply tojson; GLM-4, Qwen3-Coder walk items.
AS_JSON = (
    "{% for m in messages %}{{ m.content }}"
    "{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}"
)
AS_ITEMS = (
    "{% for m in messages %}{% for c in m.tool_calls or [] %}"
    "{% for k, v in c.function.arguments.items() %}[{{ k }}={{ v }}]{% endfor %}{% endfor %}{% endfor %}"
)


def prompt(template: str, *messages: dict[str, Any]) -> str:
    text = Text(toy_tokenizer(), template=ChatTemplate(template, {}), end_ids=frozenset({END_ID}))
    body = parse(TokenizeChatBody, json.dumps({"messages": messages}).encode())
    return text.decode(conversation_tokens(body, text, 4096))


def called(arguments: object, **fields: object) -> dict[str, Any]:
    function = {"name": "weather"} if arguments is ... else {"name": "weather", "arguments": arguments}
    call = {"id": "call_1", "type": "function", "function": function} | fields
    return {"role": "assistant", "content": None, "tool_calls": [call]}


@pytest.mark.parametrize(
    ("arguments", "as_json", "as_items"),
    [
        ('{"city": "Oslo"}', '{"city": "Oslo"}', "[city=Oslo]"),
        ({"city": "Oslo"}, '{"city": "Oslo"}', "[city=Oslo]"),
        ('{"city":"Oslo","days":[1,{"a":null}]}', '{"city": "Oslo", "days": [1, {"a": null}]}', None),
        ('{"city": null}', '{"city": null}', "[city=None]"),
        ('{"z": 1, "a": 2}', '{"z": 1, "a": 2}', "[z=1][a=2]"),
        ('{"city": "\\u00c5s"}', '{"city": "\u00c5s"}', "[city=\u00c5s]"),
        ('{"city": "\\ud83d\\ude00"}', '{"city": "\U0001f600"}', "[city=\U0001f600]"),
        ('{"city": "\\ud800!"}', '{"city": "\ufffd!"}', "[city=\ufffd!]"),
        ('{"\\udfff": 1}', '{"\ufffd": 1}', "[\ufffd=1]"),
        ('  {"city": "Oslo"}\n', '{"city": "Oslo"}', "[city=Oslo]"),
        ('{"nested": "{\\"a\\": 1}"}', '{"nested": "{\\"a\\": 1}"}', '[nested={"a": 1}]'),
        ("{}", "{}", ""),
        ("", "{}", ""),
        (" ", "{}", ""),
        (None, "{}", ""),
        (..., "{}", ""),
        ("not json", "{}", ""),
        ('{"city": "Os', "{}", ""),
        ("[]", "{}", ""),
        ("42", "{}", ""),
        ("null", "{}", ""),
        ('"text"', "{}", ""),
        ([1], "{}", ""),
        ("9" * 1000, "{}", ""),
        ("[" * 100_000, "{}", ""),
    ],
)
def test_arguments_are_an_object(arguments: object, as_json: str, as_items: str | None) -> None:
    assert prompt(AS_JSON, called(arguments)) == as_json
    if as_items is not None:
        assert prompt(AS_ITEMS, called(arguments)) == as_items


def test_every_call_of_every_message_is_treated() -> None:
    both = called('{"a": 1}')
    both["tool_calls"].append({"id": "call_2", "function": {"name": "f", "arguments": '{"b": 2}'}})  # no type: function
    conversation = [{"role": "user", "content": "?"}, both, {"role": "tool", "content": "3"}, called('{"c": 3}')]
    assert prompt(AS_JSON, *conversation) == '?{"a": 1}{"b": 2}3{"c": 3}'


def test_a_number_that_costs_too_much_to_read_is_refused_within_arguments_too() -> None:
    with pytest.raises(ApiError, match="more than 1024 digits"):
        prompt(AS_JSON, called("9" * 5000))


@pytest.mark.parametrize("calls", [None, []])
def test_no_calls_are_as_if_not_given(calls: object) -> None:
    message = {"role": "assistant", "content": "hi", "tool_calls": calls}
    assert prompt("{{ 'tool_calls' in messages[0] }}", message) == "False"


def test_what_else_a_call_has_stays_and_a_string_that_is_no_argument_is_not_read() -> None:
    template = (
        "{{ messages[0].tool_calls[0].id }} {{ messages[0].tool_calls[0].function.name }} {{ messages[1].content }}"
    )
    assert prompt(template, called("{}"), {"role": "tool", "content": '{"a": 1}'}) == 'call_1 weather {"a": 1}'


@pytest.mark.parametrize(
    ("calls", "param"),
    [
        ("text", "messages[0].tool_calls"),
        ({"function": {}}, "messages[0].tool_calls"),
        (["text"], "messages[0].tool_calls[0]"),
        ([{"type": "function"}], "messages[0].tool_calls[0]"),
        ([{"type": "custom", "custom": {"name": "f", "input": "x"}}], "messages[0].tool_calls[0]"),
    ],
)
def test_what_is_no_call_is_named(calls: object, param: str) -> None:
    with pytest.raises(ApiError) as raised:
        prompt(AS_JSON, {"role": "assistant", "content": None, "tool_calls": calls})
    assert (raised.value.status, raised.value.param) == (400, param)
