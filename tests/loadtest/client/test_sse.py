"""Events are found wherever reads cut the bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.client.sse import MOST_BYTES, Events, SseError

STREAM = (
    'data: {"a": "é\u2028"}\n\n: keep-alive\n\n'
    "data: one\r\ndata:two\r\n\r\n"
    "event: x\nid: 3\n\rdata:  x\r\rdata: [DONE]\n\n"
).encode()
DATA = ['{"a": "é\u2028"}'.encode(), b"one\ntwo", b" x", b"[DONE]"]


def test_the_data_of_each_event_and_nothing_else() -> None:
    assert Events().feed(STREAM) == DATA


@given(st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
def test_cuts_change_nothing(cuts: list[int]) -> None:
    events, found = Events(), []
    for begin, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True):
        found += events.feed(STREAM[begin:end])

    assert found == DATA


def test_byte_by_byte_an_event_is_there_with_the_end_of_its_empty_line() -> None:
    events = Events()

    assert [events.feed(bytes([byte])) for byte in b"data: x\n\n"] == [[]] * 8 + [[b"x"]]


def test_an_event_without_an_end_is_no_stream() -> None:
    events = Events()
    events.feed(b"data: " + b"x" * (MOST_BYTES - 10))

    with pytest.raises(SseError, match="an event of more than"):
        events.feed(b"x" * 10)
