"""Prompts are made of what was tried with the server's own tokenizer."""

import asyncio
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from loadtest.client.vocabulary import LocalTokenizer, VocabularyError, pieces, vocabulary
from loadtest.client.words import WORDS


class Words:
    """A token for every word, whatever the space."""

    async def ids(self, text: str) -> list[int]:
        return [1000 + WORDS.index(word) for word in text.split()]


class Bytes:
    """A token for every byte."""

    async def ids(self, text: str) -> list[int]:
        return list(text.encode())


class Merging(Bytes):
    """Neighbours change each other: an e after an s is one token with it."""

    async def ids(self, text: str) -> list[int]:
        return list(text.replace("se", "\x01").encode())


class Poor:
    async def ids(self, text: str) -> list[int]:
        return [0 for _ in text]


def test_the_vocabulary_is_the_ids_of_plain_words() -> None:
    assert asyncio.run(vocabulary(Words())) == [1000 + place for place in range(len(WORDS))]
    assert set(asyncio.run(vocabulary(Bytes()))) <= set(b" abcdefghijklmnopqrstuvwxyz")


def test_words_are_pieces_where_they_are_one_token() -> None:
    assert asyncio.run(pieces(Words())) == [f" {word}" for word in WORDS]


def test_letters_are_where_words_are_several() -> None:
    assert asyncio.run(pieces(Bytes())) == list("abcdefghijklmnopqrstuvwxyz")


def test_pieces_that_neighbours_change_are_none() -> None:
    with pytest.raises(VocabularyError, match=r"no words or letters that are one token .* use --endpoint completions"):
        asyncio.run(pieces(Merging()))


def test_a_vocabulary_of_next_to_nothing_is_said() -> None:
    with pytest.raises(VocabularyError, match="makes only 1 different tokens"):
        asyncio.run(vocabulary(Poor()))


def test_words_are_different_and_plain() -> None:
    assert len(set(WORDS)) == len(WORDS) > 300
    assert all(word.isascii() and word.isalpha() and word.islower() for word in WORDS)


def test_a_tokenizer_is_a_file_or_its_folder(tmp_path: Path) -> None:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "able": 5, "about": 6}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    for path in (tmp_path, tmp_path / "tokenizer.json"):
        assert asyncio.run(LocalTokenizer(path).ids(" about able")) == [6, 5]
    with pytest.raises(VocabularyError, match="no tokenizer at"):
        LocalTokenizer(tmp_path / "other.json")
