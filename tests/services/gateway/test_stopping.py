"""Stop strings: where a stream ends never depends on how it was cut into pieces."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.stopping import Stopped, StopStrings

SMALL = st.text(alphabet="ab\u00e9", max_size=30)
STOPS = st.lists(st.text(alphabet="ab\u00e9", min_size=1, max_size=4), max_size=4)


def told(stops: Sequence[str], pieces: Sequence[str], *, include: bool = False) -> tuple[str, str | None]:
    """All the text given out, and the stop string that ended it."""
    matcher, text = StopStrings(stops, include=include), ""
    for piece in pieces:
        fed = matcher.feed(piece)
        if isinstance(fed, Stopped):
            return text + fed.text, fed.stop
        text += fed
    return text + matcher.rest(), None


def by_eye(stops: Sequence[str], text: str, *, include: bool) -> tuple[str, str | None]:
    """Read letter by letter until some stop string is complete; of several, the longest."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            stop = max(complete, key=len)
            return text[: end if include else end - len(stop)], stop
    return text, None


def pieces_of(text: str, cuts: Sequence[int]) -> list[str]:
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


@given(stops=STOPS, text=SMALL, cuts=st.lists(st.integers(0, 30), max_size=8), include=st.booleans())
def test_any_cutting_ends_where_a_reader_would(stops: list[str], text: str, cuts: list[int], include: bool) -> None:
    assert told(stops, pieces_of(text, cuts), include=include) == by_eye(stops, text, include=include)


@given(stops=STOPS.filter(bool), text=SMALL)
def test_what_was_given_out_is_never_taken_back_and_no_more_is_held_than_must_be(stops: list[str], text: str) -> None:
    matcher, given_out = StopStrings(stops), ""
    for end, letter in enumerate(text, start=1):
        fed = matcher.feed(letter)
        if isinstance(fed, Stopped):
            assert (given_out + fed.text) == by_eye(stops, text, include=False)[0]
            return
        given_out += fed
        held = text[len(given_out) : end]
        assert text.startswith(given_out)
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)


def test_without_stop_strings_everything_passes() -> None:
    assert told([], ["a", "", "b"]) == ("ab", None)


def test_before_min_tokens_a_stop_string_is_only_text() -> None:
    matcher = StopStrings(["END"])
    assert matcher.feed("x END y", armed=False) == "x END y"
    assert matcher.feed(" END z") == Stopped(" ", "END")


def test_a_stop_string_that_is_completed_after_min_tokens_counts() -> None:
    matcher = StopStrings(["END"])
    assert matcher.feed("x EN", armed=False) == "x "
    assert matcher.feed("D y") == Stopped("", "END")


def test_one_that_was_complete_before_min_tokens_does_not_end_what_comes_after() -> None:
    matcher = StopStrings(["b", "ba"])
    assert matcher.feed("b", armed=False) == ""  # it may still be the start of the other
    assert matcher.feed("c") == "bc"


@pytest.mark.parametrize(("include", "text"), [(False, "a"), (True, "aSTOP")])
def test_the_stop_string_is_shown_only_if_asked_for(include: bool, text: str) -> None:
    assert told(["STOP"], ["aST", "OPb"], include=include) == (text, "STOP")
