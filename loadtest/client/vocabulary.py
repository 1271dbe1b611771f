"""Token ids that prompts may have, and pieces of text that are one token each whatever stands around them.

Both come from plain words by way of the server's own tokenizer: special tokens are not among them, and nothing is
assumed of a vocabulary that wasn't tried.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random
from string import ascii_lowercase
from typing import Protocol

from tokenizers import Tokenizer

from loadtest.client.words import WORDS

ENOUGH = 16
"""Pieces; of fewer there are too few different texts."""

TRIED_AT_ONCE = 16
JOINS, JOINED = 4, 200
"""Texts of so many pieces, by which it is tried that neighbours don't change a piece."""


class VocabularyError(Exception):
    """Prompts of known length can't be made; the sentence says what else can be done."""


class Tokenizes(Protocol):
    """The server's tokenizer, without special tokens. Raises VocabularyError."""

    async def ids(self, text: str) -> list[int]: ...


class LocalTokenizer:
    """A ``tokenizer.json``, or a folder that has one. Raises VocabularyError where there is none."""

    def __init__(self, path: Path) -> None:
        file = path / "tokenizer.json" if path.is_dir() else path
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # whatever it finds wrong with a file it raises as a bare Exception
            raise VocabularyError(f"no tokenizer at {file}: {error}") from error

    async def ids(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


async def vocabulary(tokenizer: Tokenizes) -> list[int]:
    """The ids of all words, each once, ascending."""
    found = sorted(set(await tokenizer.ids("".join(f" {word}" for word in WORDS))))
    if len(found) < ENOUGH:
        raise VocabularyError(f"the tokenizer makes only {len(found)} different tokens of {len(WORDS)} words")
    return found


async def pieces(tokenizer: Tokenizes) -> list[str]:
    """Words with the space before them; where they are several tokens each, as bytes are, letters without."""
    for candidates in ([f" {word}" for word in WORDS], list(ascii_lowercase)):
        found = await _single(tokenizer, candidates)
        if len(found) >= ENOUGH and await _stable(tokenizer, found):
            return list(found)
    raise VocabularyError(
        "the tokenizer has no words or letters that are one token wherever they stand, so texts of known length "
        "can't be made; use --endpoint completions, whose prompts are token ids"
    )


async def _single(tokenizer: Tokenizes, candidates: Sequence[str]) -> dict[str, int]:
    """Those that are one token, and which."""
    limit = asyncio.Semaphore(TRIED_AT_ONCE)

    async def tried(candidate: str) -> list[int]:
        async with limit:
            return await tokenizer.ids(candidate)

    found = await asyncio.gather(*map(tried, candidates))
    return {candidate: ids[0] for candidate, ids in zip(candidates, found, strict=True) if len(ids) == 1}


async def _stable(tokenizer: Tokenizes, found: dict[str, int]) -> bool:
    chance = Random(1)
    for _ in range(JOINS):
        drawn = chance.choices(list(found), k=JOINED)
        if await tokenizer.ids("".join(drawn)) != [found[piece] for piece in drawn]:
            return False
    return True
