"""What is told of token ids: every byte once, whatever character a prompt or an answer breaks.

The right text is Unicode's decoding of the bytes (U+FFFD for each maximal part of no character, as Python and Rust
have it). Whole valid sequences are also what tokenizers 0.23.3 decodes.
"""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders

from services.gateway.text import Text
from services.gateway.toy_text import byte_letters
from tests.field.directories import WORDS, bytes_tokenizer, words_tokenizer

BYTES_RAW, WORDS_RAW, PLAIN_RAW = bytes_tokenizer(), words_tokenizer(), words_tokenizer(prepend=False)
PLAIN_RAW.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])


def text(made: Tokenizer) -> Text:
    return Text(made, template=None, end_ids=frozenset())


KINDS = {"bytes": text(BYTES_RAW), "words": text(WORDS_RAW), "words without a prefix": text(PLAIN_RAW)}
RAW = {"bytes": BYTES_RAW, "words": WORDS_RAW, "words without a prefix": PLAIN_RAW}


def ids(kind: str, data: bytes) -> list[int]:
    """A token a byte."""
    if kind != "bytes":
        return [3 + byte for byte in data]
    found = [BYTES_RAW.token_to_id(byte_letters()[byte]) for byte in data]
    return [each for each in found if each is not None]


def told(kind: str, prompt: Sequence[int], answer: Sequence[int], *, echo: bool, skip: bool = True) -> list[str]:
    """The pieces of an answer, the echo of its prompt in front if asked for."""
    made = KINDS[kind]
    detokenizer = made.detokenizer(prompt, skip_special_tokens=skip, echoed=echo)
    first = [made.echo(prompt, skip_special_tokens=skip)] if echo else []
    return [*first, *(detokenizer.add(token) for token in answer), detokenizer.rest()]


E = "\u20ac".encode()  # three bytes
G = "\U0001f600".encode()  # four


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("prompt", "answer", "alone", "echoed"),
    [
        (b"ab", b"c", "c", "abc"),
        (b"a" + E[:1], E[1:] + b"b", "\u20acb", "a\u20acb"),
        (b"a" + E[:2], E[2:] + b"b", "\u20acb", "a\u20acb"),
        (E[:2], E[2:], "\u20ac", "\u20ac"),
        (b"a" + G[:3], G[3:] + E, "\U0001f600\u20ac", "a\U0001f600\u20ac"),
        (b"a" + G[:1], G[1:], "\U0001f600", "a\U0001f600"),
        (b"a" + E[:2], b"b", "b", "a\ufffdb"),
        (b"a" + E[:2], E, "\u20ac", "a\ufffd\u20ac"),
        (b"a" + E[:2], b"", "", "a\ufffd"),
        (b"a" + G[:2], G[2:3], "\ufffd", "a\ufffd"),
        (b"a" + G[:2], G[2:3] + b"b", "\ufffdb", "a\ufffdb"),
        (b"a\xff", b"b", "b", "a\ufffdb"),
        (b"a\xff\xff", b"\xff", "\ufffd", "a\ufffd\ufffd\ufffd"),
        (b"a" + "\ufffd".encode(), b"b", "b", "a\ufffdb"),
        (b"a" + "\ufffd".encode()[:2], "\ufffd".encode()[2:] + b"b", "\ufffdb", "a\ufffdb"),
        (b"a\x80", b"\x80b", "\ufffdb", "a\ufffd\ufffdb"),
        (b"a\xe0", b"\x80b", "\ufffdb", "a\ufffd\ufffdb"),
    ],
)
def test_a_character_that_a_prompt_begins(kind: str, prompt: bytes, answer: bytes, alone: str, echoed: str) -> None:
    assert "".join(told(kind, ids(kind, prompt), ids(kind, answer), echo=False)) == alone
    assert "".join(told(kind, ids(kind, prompt), ids(kind, answer), echo=True)) == echoed


@pytest.mark.parametrize("kind", KINDS)
@given(prompt=st.binary(max_size=6), answer=st.binary(max_size=12))
def test_an_echo_and_its_answer_are_the_whole(kind: str, prompt: bytes, answer: bytes) -> None:
    pieces = told(kind, ids(kind, prompt), ids(kind, answer), echo=True)
    whole = (prompt + answer).decode("utf-8", "replace")
    right = whole.removeprefix(" ") if kind == "words" else whole
    assert "".join(pieces) == KINDS[kind].decode(ids(kind, prompt + answer)) == right


@pytest.mark.parametrize("kind", KINDS)
@given(written=st.text(max_size=30))
def test_whole_texts_are_what_the_library_decodes(kind: str, written: str) -> None:
    tokens = KINDS[kind].encode(written)
    assert KINDS[kind].decode(tokens) == RAW[kind].decode(tokens, skip_special_tokens=False)
    assert KINDS[kind].decode(tokens, skip_special_tokens=True) == RAW[kind].decode(tokens)


@pytest.mark.parametrize("kind", ["words", "words without a prefix"])
def test_a_stray_byte_spoils_only_itself(kind: str) -> None:
    """The library gives U+FFFD for each byte of the run."""
    tokens = ids(kind, b"\xff" + E + b"!")
    assert KINDS[kind].decode(tokens) == "\ufffd\u20ac!"
    assert "".join(told(kind, [], tokens, echo=False)) == "\ufffd\u20ac!"
    assert RAW[kind].decode(tokens) == "\ufffd" * 5


@pytest.mark.parametrize("skip", [True, False])
def test_an_echo_has_special_tokens_if_they_are_not_skipped(skip: bool) -> None:
    made = KINDS["bytes"]
    prompt = made.encode("<|im_start|>ab<|im_end|>")
    assert made.echo(prompt, skip_special_tokens=skip) == ("ab" if skip else "<|im_start|>ab<|im_end|>")


def test_special_tokens_behind_a_begun_character_are_no_part_of_it() -> None:
    end = KINDS["bytes"].encode("<|im_end|>")
    begun = [*ids("bytes", b"a" + E[:2]), *end * 5]
    assert "".join(told("bytes", begun, ids("bytes", E[2:]), echo=True)) == "a\u20ac"
    assert (
        "".join(told("bytes", begun, ids("bytes", E[2:]), echo=True, skip=False))
        == "a\ufffd" + "<|im_end|>" * 5 + "\ufffd"
    )


def test_a_leading_space_is_left_out_only_at_the_very_start() -> None:
    word = 3 + 256 + WORDS.index("▁ab")
    assert "".join(told("words", [], [word, word], echo=False)) == "ab ab"
    assert "".join(told("words", [1], [word], echo=False)) == "ab"
    assert "".join(told("words", [1], [word], echo=False, skip=False)) == " ab"
    assert "".join(told("words", [word, *[1] * 9], [word], echo=False)) == " ab"
    assert "".join(told("words", [1, word], [word], echo=True)) == "ab ab"
