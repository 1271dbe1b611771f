"""Equal contents are equal tokens, and nothing else is."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.prompts import drawn, text, token_ids
from loadtest.request import Span

VOCABULARY = range(100, 1124)
WORDS = [f" w{number}" for number in range(64)]


def test_tokens_are_these_on_every_machine() -> None:
    """Whoever repeats a run with a seed, years later too, sends the same prompts."""
    assert drawn(Span(3, 4), 1 << 16, seed=0).tolist() == [60967, 53337, 36085, 30355]


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**63))
def test_a_shorter_span_is_the_beginning_of_a_longer_one(content: int, one: int, other: int, seed: int) -> None:
    few, many = sorted([one, other])
    short, long = (drawn(Span(content, tokens), 999, seed=seed) for tokens in (few, many))

    assert (short == long[:few]).all()
    assert long.min() >= 0
    assert long.max() < 999


def test_equal_spans_are_equal_wherever_they_stand() -> None:
    alone = token_ids([Span(5, 64)], VOCABULARY, seed=1)
    behind = token_ids([Span(4, 10), Span(5, 64)], VOCABULARY, seed=1)

    assert behind[10:] == alone
    assert set(behind) <= set(VOCABULARY)


def test_another_content_or_seed_is_another_text() -> None:
    one = np.asarray(token_ids([Span(5, 4096)], VOCABULARY, seed=1))
    for content, seed in ((6, 1), (5, 2), (5 + 2**16, 1)):
        other = np.asarray(token_ids([Span(content, 4096)], VOCABULARY, seed=seed))
        assert (one == other).mean() < 0.01  # as often as chance has it, 1 in 1,024


def test_every_word_is_drawn_about_equally_often() -> None:
    found = Counter(drawn(Span(1, 64_000), 64, seed=1).tolist())

    assert len(found) == 64
    assert max(found.values()) / 1000 == pytest.approx(1.0, abs=0.2)


def test_what_was_really_said_stands_where_it_is_known() -> None:
    prompt = [Span(1, 3), Span(2, 4), Span(3, 2)]
    plain = token_ids(prompt, VOCABULARY, seed=1)

    assert token_ids(prompt, VOCABULARY, seed=1, said={2: [7, 8, 9, 10, 11]}) == [*plain[:3], 7, 8, 9, 10, *plain[7:]]
    assert token_ids(prompt, VOCABULARY, seed=1, said={2: [7]}) == [*plain[:3], 7, *plain[4:]]


def test_a_text_has_a_piece_for_each_token_and_leaves_room_at_its_end() -> None:
    prompt = [Span(1, 10), Span(2, 5)]
    whole = text(prompt, WORDS, seed=1)

    assert len(whole.split()) == 15
    assert text(prompt, WORDS, seed=1, without=4).split() == whole.split()[:11]
    assert len(text(prompt, WORDS, seed=1, without=99).split()) == 1
