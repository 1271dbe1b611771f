"""Detokenizing as tokens come: the same text as all at once, and never half a character."""

from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from services.gateway.detokenize import PENDING, WindowDetokenizer
from services.gateway.text import Text, toy_text
from services.gateway.toy_text import END_ID, VOCAB_SIZE, byte_letters, toy_tokenizer

TOY = toy_text()
RAW = toy_tokenizer()


def byte_fallback() -> Tokenizer:
    """Of SentencePiece's kind: words that carry their space, bytes where no word fits."""
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)}
    vocabulary |= {
        word: 256 + number for number, word in enumerate(["\u2581Paris", "\u2581is", "a", "\u2581a", "\u2581"])
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


SENTENCEPIECE = Text(byte_fallback(), template=None, end_ids=frozenset())


def pieces(
    text: Text, tokens: Sequence[int], prompt: Sequence[int] = (), *, skip: bool = False, echoed: bool = False
) -> list[str]:
    detokenizer = text.detokenizer(prompt, skip_special_tokens=skip, echoed=echoed)
    return [*(detokenizer.add(token) for token in tokens), detokenizer.rest()]


def windowed(tokens: Sequence[int], prompt: Sequence[int] = (), hidden: frozenset[int] = frozenset()) -> list[str]:
    detokenizer = WindowDetokenizer(partial(RAW.decode, skip_special_tokens=False), hidden=hidden, prompt=prompt)
    return [*(detokenizer.add(token) for token in tokens), detokenizer.rest()]


@given(st.text(max_size=60))
def test_any_text_comes_back_and_no_piece_has_half_a_character(written: str) -> None:
    told = pieces(TOY, TOY.encode(written))
    assert "".join(told) == written
    if "\ufffd" not in written:
        assert not any("\ufffd" in piece for piece in told)


@given(st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=80))
def test_any_tokens_give_the_text_that_they_give_all_at_once(tokens: list[int]) -> None:
    assert "".join(pieces(TOY, tokens)) == TOY.decode(tokens)


@given(st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=60))
def test_special_tokens_are_left_out_if_asked_for(tokens: list[int]) -> None:
    told = pieces(TOY, tokens, skip=True)
    assert "".join(told) == TOY.decode(tokens, skip_special_tokens=True)


@given(st.text(max_size=40))
def test_the_same_holds_for_words_that_carry_their_space_and_bytes_for_the_rest(written: str) -> None:
    tokens = SENTENCEPIECE.encode(written)
    assert "".join(pieces(SENTENCEPIECE, tokens)) == SENTENCEPIECE.decode(tokens)


@given(st.lists(st.integers(128, 255), min_size=PENDING, max_size=120))
def test_bytes_of_no_character_neither_pile_up_nor_change(tokens: list[int]) -> None:
    assert "".join(pieces(TOY, tokens)) == TOY.decode(tokens)


def test_bytes_of_no_character_are_given_out_in_the_end() -> None:
    told = pieces(TOY, [0xFF] * 100)
    assert "".join(told) == "\ufffd" * 100
    assert len("".join(told[:50])) > 20


def test_a_character_of_four_tokens_comes_with_the_last_of_them() -> None:
    assert pieces(TOY, list("\U0001f600".encode())) == ["", "", "", "\U0001f600", ""]


def test_an_incomplete_character_at_the_end_is_shown_as_such() -> None:
    assert pieces(TOY, [*b"ab", 0xE2, 0x82]) == ["a", "b", "", "", "\ufffd"]


def test_the_first_token_keeps_the_space_that_it_has_after_the_prompt() -> None:
    assert pieces(SENTENCEPIECE, [256, 257], prompt=[257]) == [" Paris", " is", ""]
    assert pieces(SENTENCEPIECE, [256, 257])[0] == "Paris"


@pytest.mark.parametrize("prompt", [b"h\xc3", b"\xc3"])
def test_a_prompt_that_ends_inside_a_character_is_not_told_again(prompt: bytes) -> None:
    assert pieces(TOY, [0xA9, ord("x")], prompt=list(prompt)) == ["\u00e9", "x", ""]


def test_end_tokens_take_no_place_while_they_are_hidden() -> None:
    told = pieces(TOY, [END_ID, ord("a"), END_ID, END_ID, ord("b")], skip=True)
    assert told == ["", "a", "", "", "b", ""]


def test_every_byte_has_a_letter_of_its_own() -> None:
    assert len(set(byte_letters())) == 256


@given(st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=60))
def test_a_window_gives_any_tokens_the_text_that_they_have_all_at_once(tokens: list[int]) -> None:
    assert "".join(windowed(tokens)) == RAW.decode(tokens, skip_special_tokens=False)
    assert "".join(windowed(tokens, hidden=TOY.special_ids)) == RAW.decode(tokens)


@pytest.mark.parametrize("prompt", [b"h\xc3", b"\xc3"])
def test_a_window_begins_within_a_character_of_the_prompt(prompt: bytes) -> None:
    assert windowed([0xA9, ord("x")], prompt=list(prompt)) == ["\u00e9", "x", ""]


def word_pieces() -> Text:
    vocabulary = {word: id_ for id_, word in enumerate(["[UNK]", "hello", "##lo", "wor", "##ld", "!"])}
    made = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.WordPiece()
    return Text(made, template=None, end_ids=frozenset())


def test_texts_that_are_more_than_bytes_come_from_a_window() -> None:
    text = word_pieces()
    assert pieces(text, [3, 4, 5], prompt=[1]) == [" wor", "ld", "!", ""]
    assert text.echo([1, 3], skip_special_tokens=True) == "hello wor"
