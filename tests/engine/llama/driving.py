"""Drive an engine without a batcher: sequences that a test cuts, batches and places as it likes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from engine.llama import LlamaEngine
from scheduler.batch import Batch, Slice
from scheduler.vocabulary import RequestId, Sampling

BLOCK = 16
"""Tokens in a block of these tests: small, so that short prompts have several."""

NEAR_TIE = 1e-3
"""Two logits that lie closer than this may change places (design.md, promise 1)."""


def load(directory: Path, **changes: Any) -> LlamaEngine:
    """A KV cache of 4 MiB (50 blocks of 16 tokens at the least) in float32, unless told otherwise."""
    settings: dict[str, Any] = {"device": "cpu", "dtype": "float32", "block_tokens": BLOCK, "kv_cache_bytes": 4 << 20}
    return LlamaEngine.load(directory, **settings | changes)


def prompt(length: int, seed: int = 0, vocab: int = 131) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(vocab) for _ in range(length)]


def in_a_row(count: int, first: int = 0) -> list[int]:
    return list(range(first, first + count))


def scattered(count: int, total: int, seed: int = 0) -> list[int]:
    """Blocks of which no two neighbours lie in a row."""
    chance = random.Random(seed)
    while True:
        blocks = chance.sample(range(total), count)
        if all(after != block + 1 for block, after in pairwise(blocks)):
            return blocks


def in_runs(count: int, total: int, run: int = 2) -> list[int]:
    """Blocks in short rows, each before the one that precedes it in the sequence."""
    blocks: list[int] = []
    start = total
    while len(blocks) < count:
        start -= run
        blocks += range(start, start + run)
    return blocks[:count]


@dataclass
class Text:
    """A sequence: its tokens, its blocks, how much of it is computed, and the logits it was given."""

    tokens: list[int]
    blocks: Sequence[int]
    computed: int = 0
    name: str = "a"
    logits: list[torch.Tensor] = field(default_factory=list)

    def slice(self, count: int, *, sampling: Sampling | None = None) -> Slice:
        tokens = self.tokens[self.computed : self.computed + count]
        return Slice(RequestId(self.name), tokens, self.computed, self.blocks, sampling)


def step(engine: LlamaEngine, *pieces: tuple[Text, int]) -> None:
    """Compute so many tokens of each text in one batch, and keep every token's logits."""
    logits = engine.logits(Batch(tuple(text.slice(count) for text, count in pieces)))
    row = 0
    for text, count in pieces:
        text.logits.append(logits[row : row + count].clone())
        text.computed += count
        row += count


def whole(
    engine: LlamaEngine, tokens: Sequence[int], blocks: Sequence[int], chunks: Sequence[int] = ()
) -> torch.Tensor:
    """The logits of every token, [tokens, vocab], computed in chunks that end at these positions."""
    text = Text(list(tokens), blocks)
    for start, end in pairwise((0, *chunks, len(tokens))):
        step(engine, (text, end - start))
    return torch.cat(text.logits)


def greedy(engine: LlamaEngine, tokens: Sequence[int], blocks: Sequence[int], count: int) -> list[int]:
    """``count`` tokens by ``run``: the prompt at once, then one by one."""
    text = Text(list(tokens), blocks)
    fresh = len(tokens)
    for _ in range(count):
        (token,) = engine.run(Batch((text.slice(fresh, sampling=Sampling()),))).tokens
        assert token is not None
        text.computed, fresh = text.computed + fresh, 1
        text.tokens.append(token)
    return text.tokens[len(tokens) :]


def assert_greedy(logits: torch.Tensor, tokens: Sequence[int], prompt_tokens: int) -> int:
    """Each output token is the best one by ``logits``, teacher-forced; returns how many near ties there were.

    tokens: prompt and output. logits: [tokens, vocab], what comes after each of them. Where two
    logits lie closer than NEAR_TIE either token may have been taken.
    """
    ties = 0
    for position in range(prompt_tokens, len(tokens)):
        row = logits[position - 1]
        best = float(row.max())
        chosen = float(row[tokens[position]])
        if int(row.argmax()) != tokens[position]:
            assert best - chosen < NEAR_TIE, f"token {position} is {best - chosen} below the best one"
            ties += 1
    return ties
