"""What a request must be answered with, whatever its path."""

import random
from dataclasses import dataclass
from functools import cache

from scheduler.batch import Batch, Slice
from scheduler.vocabulary import RequestId, Sampling
from tests.services.rig import BLOCK_TOKENS, GREEDY, toy


@dataclass(frozen=True)
class Asked:
    """One request."""

    prompt: tuple[int, ...]
    max_tokens: int = 16
    sampling: Sampling = GREEDY


def asked(chance: random.Random) -> Asked:
    """A prompt that nobody has asked about, of a length at, just under or just over a multiple of the block."""
    length = max(1, chance.randrange(1, 12) * BLOCK_TOKENS + chance.choice([-1, 0, 1, 4]))
    sampling = chance.choice([Sampling(), Sampling(temperature=0.9, seed=chance.randrange(3))])
    return Asked(tuple(chance.randrange(500) for _ in range(length)), chance.randrange(2, 20), sampling)


@cache
def alone(it: Asked) -> tuple[int, ...]:
    """What an engine gives that computes everything in one go, with nothing cached, batched or moved."""
    engine, tokens = toy(), list(it.prompt)
    start, blocks = 0, range(engine.blocks_total)
    for _ in range(it.max_tokens):
        piece = Slice(RequestId("r"), tokens[start:], start, blocks, it.sampling)
        (token,) = engine.run(Batch((piece,))).tokens
        assert token is not None
        start = len(tokens)
        tokens.append(token)
    return tuple(tokens[len(it.prompt) :])
