"""Bodies that would keep a gateway from its streams: each is refused for what it holds before that is looked at.

Millions of wrong elements, of containers, of names, deep nesting, long numbers, long strings in errors, prompts
without end, answers that repeat them.
"""

import asyncio
import json
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kvstore.layout import Identity
from services.gateway.chat import chat_order
from services.gateway.document import DEEPEST, MOST_CONTAINERS, MOST_DIGITS, MOST_VALUES, PIECE, document
from services.gateway.errors import ApiError
from services.gateway.front import BODY_BYTES_PER_TOKEN, LEAST_BODY_BYTES
from services.gateway.order import LEAST_COUNTED, Deployment
from services.gateway.schemas import MOST_MESSAGES, ChatBody, CompletionBody, DetokenizeBody
from services.gateway.text import Text, toy_text
from services.gateway.text_threads import one_piece
from services.gateway.toy_text import toy_tokenizer
from services.gateway.wishes import Wishes
from tests.services.gateway.bodies import completion_order, parse
from tests.services.gateway.conftest import cluster, running
from tests.services.gateway.fakes.cluster import FakeCluster

__all__ = ["cluster"]  # a fixture

HELLO = '{"role": "user", "content": "hi"}'
IDENTITY = Identity("toy", "0123", "float32", 16, "abcd")
CONTEXT = Deployment(IDENTITY, 8192)


def refusal(raw: str, kind: type[Any] = ChatBody) -> ApiError:
    with pytest.raises(ApiError) as error:
        parse(kind, raw.encode())
    assert error.value.status == 400
    assert len(error.value.message) < 300
    return error.value


WRONG_ELEMENTS = {
    "numbers": "0,",
    "nulls": "null,",
    "empty lists": "[],",
    "empty objects": "{},",
    "empty strings": '"",',
    "floats": "1.5,",
    "escaped quotes": '"\\"",',
    "objects with names": '{"a":0},',
}


@pytest.mark.parametrize("field", ["messages", "stop_token_ids", "metadata"])
@pytest.mark.parametrize("element", WRONG_ELEMENTS.values(), ids=WRONG_ELEMENTS)
def test_six_mebibytes_of_wrong_elements_are_refused_unparsed(field: str, element: str) -> None:
    """They are cut off, so that a parser would have said that they are no JSON."""
    cut_off = f'{{"messages":[{HELLO}],"{field}":[' + element * ((6 << 20) // len(element))
    error = refusal(cut_off)
    assert error.code == "request_too_large"
    assert error.message.startswith("The body has more than ")


def test_a_million_names_are_refused_unparsed() -> None:
    names = ",".join(f'"{number}":0' for number in range(MOST_CONTAINERS + 1))
    assert refusal(f'{{"messages":[{HELLO}],{names}').message == f"The body has more than {MOST_CONTAINERS} fields."


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_deep_nesting_is_no_json(opening: str) -> None:
    for depth in (DEEPEST + 1, 100_000):
        assert refusal('{"messages":' + opening * depth).message.startswith("The body is not valid JSON: ")


@pytest.mark.parametrize("number", ["1" * 4096, "-" + "9" * 4096, "0." + "1" * 4096, "1e" + "0" * 4096])
def test_long_numbers_are_refused_unparsed(number: str) -> None:
    """Wherever a piece of the count ends."""
    for before in (0, PIECE - 2048):
        error = refusal(f'{{"messages":[{HELLO}],"seed":{" " * before}{number}')
        assert (error.code, error.message) == ("request_too_large", "The body has a number of more than 1024 digits.")


def test_digits_in_strings_are_no_number() -> None:
    digits = "1" * 10_000
    assert document(f'{{"prompt": "{digits}", "x{digits}": 1.5}}'.encode())["prompt"] == digits
    assert document(f'{{"seed": {"1" * MOST_DIGITS}}}'.encode())


@pytest.mark.parametrize("padding", range(4))
@pytest.mark.parametrize("content", ["[{:,]}", '\\"[,', "\\\\", '\\\\\\"', "\\n,", "\\u005b"])
def test_what_strings_hold_does_not_count(content: str, padding: int) -> None:
    """Wherever a piece of the count ends: in front of an escape, within it, after it."""
    value = "x" * padding + content * ((5 * PIECE) // len(content))
    raw = f'{{"prompt":"{value}","n":1}}'
    assert document(raw.encode()) == {"prompt": json.loads(f'"{value}"'), "n": 1}


@settings(max_examples=8)
@given(st.lists(st.text('a"\\,[{:\n', max_size=20), max_size=20), st.integers(0, 3))
def test_what_a_body_holds_is_counted_exactly(texts: list[str], padding: int) -> None:
    """Commas are counted: as many as there may be are read, and one more is not."""
    listed = json.dumps([*texts, *[0] * (MOST_VALUES - len(texts))])
    fits = f'{{"{"x" * padding}":{listed}, "y": 0}}'
    assert len(document(fits.encode())["x" * padding]) == MOST_VALUES
    with pytest.raises(ApiError, match=f"more than {MOST_VALUES} values"):
        document(fits.replace('"y": 0}', '"y": 0, "z": 0}').encode())


def test_a_prompt_of_ids_may_fill_any_context() -> None:
    ids = [1] * (1 << 20)
    assert document(json.dumps({"prompt": ids}).encode(), context=1 << 20)["prompt"] == ids


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (ChatBody, {"messages": [0] * MOST_MESSAGES}),
        (ChatBody, {"messages": [{"role": "user", "content": [0] * MOST_MESSAGES}]}),
        (ChatBody, {"messages": [{"role": "user"}], "stop_token_ids": ["a"] * 1000}),
        (ChatBody, {"messages": [{"role": "user"}], "stop": [0] * 64}),
        (CompletionBody, {"prompt": [None] * 100}),
        (CompletionBody, {"prompt": [[None] * 1000] * 100}),
        (DetokenizeBody, {"tokens": ["a"] * 100_000}),
    ],
)
def test_of_wrong_elements_the_first_is_looked_at(kind: type[Any], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        kind.model_validate(body)
    assert error.value.error_count() == 1


USER = {"role": "user"}


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (ChatBody, {"messages": [0] * 8193}, "`messages` must have at most 8192 elements, not 8193."),
        (
            ChatBody,
            {"messages": [USER | {"content": [0] * 8193}]},
            "`messages[0].content` must have at most 8192 parts, not 8193.",
        ),
        (
            ChatBody,
            {"messages": [USER], "stop_token_ids": ["a"] * 1025},
            "`stop_token_ids` must have at most 1024 elements, not 1025.",
        ),
        (ChatBody, {"messages": [USER], "stop": [0] * 65}, "`stop` must be at most 64 strings, not 65."),
        (
            ChatBody,
            {"messages": [USER], "cache_salt": "x" * 1025},
            "`cache_salt` must be at most 1024 characters, not 1025.",
        ),
        (CompletionBody, {"prompt": ["a"] * 129}, "`prompt` must be at most 128 prompts, not 129."),
        (CompletionBody, {"prompt": [*[[1]] * 129, 0]}, "`prompt` must be at most 128 prompts, not 130."),
    ],
)
def test_a_list_that_is_too_long_is_refused_before_its_elements(
    kind: type[Any], body: dict[str, Any], said: str
) -> None:
    assert refusal(json.dumps(body), kind).message == said


LONG_VALUES = ['"' + "x" * 1_000_000 + '"', "9" * 4000, "1e999999", "-1e999999", "7." + "1" * 4000]


@pytest.mark.parametrize("value", LONG_VALUES, ids=lambda value: value[:9])
@pytest.mark.parametrize("field", ["n", "temperature", "stream", "seed", "stop", "slo", "messages"])
def test_an_error_never_repeats_what_is_long(field: str, value: str) -> None:
    if field == "temperature" and value.startswith("7."):
        value = "-" + value
    messages = "" if field == "messages" else f',"messages":[{HELLO}]'
    refusal(f'{{"{field}":{value}{messages}}}')


def test_a_role_that_is_long_is_not_repeated() -> None:
    refusal(json.dumps({"messages": [{"role": "x" * 1_000_000, "content": ""}]}))


def test_the_arguments_of_past_tool_calls_are_counted_too() -> None:
    """They are JSON within a string of the body."""
    call = {"type": "function", "function": {"name": "f", "arguments": '{"x":[' + "0," * (MOST_VALUES + 1)}}
    body = ChatBody(messages=[{"role": "assistant", "tool_calls": [call]}])  # type: ignore[list-item]
    with pytest.raises(ApiError) as error:
        chat_order(body, toy_text(), Wishes(), CONTEXT)
    assert error.value.code == "request_too_large"


class Watched(Text):
    """A text side that notes the length of all that it tokenizes."""

    def __init__(self) -> None:
        super().__init__(toy_tokenizer(), template=None, end_ids=frozenset({256}))
        self.tokenized: list[int] = []

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        self.tokenized.append(len(text))
        return super().encode(text, add_special_tokens=add_special_tokens)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"prompt": ["a"] * 128, "n": 2}, None),
        ({"prompt": ["a"] * 100 + ["x" * 8192 * 12 + "y"]}, "context_length_exceeded"),
        ({"prompt": [1] * 8192}, "context_length_exceeded"),
    ],
)
def test_prompts_are_counted_before_any_is_tokenized(body: dict[str, Any], code: str | None) -> None:
    watched = Watched()
    with pytest.raises(ApiError) as error:
        completion_order(CompletionBody(**body), watched, Wishes(), CONTEXT)
    assert error.value.code == code
    assert watched.tokenized == []


def test_a_prompt_that_may_be_too_long_is_counted_piece_by_piece() -> None:
    """90,000 characters could be 7,500 tokens of 12, and are 90,000; after 65,536 of them that is certain."""
    watched = Watched()
    with pytest.raises(ApiError) as error:
        completion_order(CompletionBody(prompt=["x" * 90_000]), watched, Wishes(), CONTEXT)
    assert error.value.code == "context_length_exceeded"
    assert watched.tokenized == [LEAST_COUNTED]


def test_a_long_prompt_that_fits_is_tokenized_as_one() -> None:
    watched = Watched()
    order = completion_order(CompletionBody(prompt=["x" * 90_000]), watched, Wishes(), Deployment(IDENTITY, 90_020))
    assert len(order.choices[0].prompt) == 90_000
    assert watched.tokenized == [90_000]


@pytest.mark.parametrize("repeating", ["echo", "return_token_ids"])
def test_an_answer_repeats_prompts_only_so_often(repeating: str) -> None:
    asked: dict[str, Any] = {"prompt": [[1] * 8000], repeating: True}
    with pytest.raises(ApiError) as error:
        completion_order(CompletionBody(**asked, n=128), Watched(), Wishes(), CONTEXT)
    assert error.value.param == repeating
    assert len(completion_order(CompletionBody(**asked), Watched(), Wishes(), CONTEXT).choices) == 1


def test_thousands_of_messages_make_one_prompt() -> None:
    body = ChatBody(messages=[{"role": "user", "content": "hi"}] * MOST_MESSAGES)  # type: ignore[list-item]
    with pytest.raises(ApiError) as error:
        chat_order(body, toy_text(), Wishes(), CONTEXT)
    assert error.value.code == "context_length_exceeded"


async def test_large_bodies_are_read_beside_the_event_loop(cluster: FakeCluster) -> None:
    """They wait for a text thread, and what needs none is served meanwhile."""
    go = threading.Event()
    async with running(cluster, toy_text(), text_threads=1) as gateway:
        taken = asyncio.create_task(gateway.front.in_thread(one_piece(lambda: go.wait(10)), size=1, client=""))
        large = json.dumps({"messages": [0] * 8000, "user": "x" * 20_000})
        waits = asyncio.create_task(gateway.http.post("/v1/chat/completions", content=large))
        while gateway.front.texts.waiting < 2:
            assert (await gateway.http.get("/live")).status_code == 200
        small = await gateway.http.post("/v1/chat/completions", json={"messages": [0]})
        assert small.json()["error"]["message"] == "`messages[0]` must be an object, not 0."
        assert not waits.done()
        go.set()
        assert (await waits).json() == small.json()
        await taken


@pytest.mark.slow
async def test_the_event_loop_goes_on_beside_bodies_of_six_mebibytes(cluster: FakeCluster) -> None:
    """Measured with the bounds wide, as machines are busy: ten seconds before, hundredths now."""
    gaps: list[float] = []

    async def watch() -> None:
        last = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(0.005)
            now = asyncio.get_running_loop().time()
            gaps.append(now - last)
            last = now

    async with running(cluster, toy_text(), max_body_bytes=8 << 20) as gateway:
        watching = asyncio.create_task(watch())
        for element in WRONG_ELEMENTS.values():
            body = ('{"messages":[' + element * ((6 << 20) // len(element)) + "0]}").encode()
            began = asyncio.get_running_loop().time()
            answer = await gateway.http.post("/v1/chat/completions", content=body)
            assert answer.json()["error"]["code"] == "request_too_large"
            assert asyncio.get_running_loop().time() - began < 2.0
        watching.cancel()
    assert max(gaps) < 1.0


@pytest.mark.parametrize("path", ["/tokenize", "/v1/completions"])
async def test_the_longest_body_fits_the_context(cluster: FakeCluster, path: str) -> None:
    async with running(cluster, toy_text()) as gateway:
        await gateway.front.refresh()
        longest = LEAST_BODY_BYTES + BODY_BYTES_PER_TOKEN * (gateway.front.longest or 0)
        start, end = b'{"prompt":"', b'"}'
        most = longest - len(start) - len(end)
        fits = await gateway.http.post(path, content=start + b"x" * most + end)
        assert fits.json()["error"]["code"] == "context_length_exceeded"
        too_long = await gateway.http.post(path, content=start + b"x" * (most + 1) + end)
        assert too_long.status_code == 413
        assert too_long.json()["error"]["message"] == f"The body is longer than {longest} bytes."
