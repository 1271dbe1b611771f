"""A stand-in for Mooncake's conversation trace, with its published statistics, for where the file is not at hand.

Conversations begin with prompts of log-normal length and come back, often more than once, after log-normal
pauses; most bring their whole last prompt and a little more, some only its beginning. All share block 0.
Its constants were fitted to the published trace; ``docs/simulator.md`` shows how far both agree.
"""

from heapq import heappop, heappush
from itertools import count
from math import log
from typing import TYPE_CHECKING

from loadtest.traces.trace import BLOCK_TOKENS, Row

if TYPE_CHECKING:
    from random import Random

REQUESTS = 12_031
BATCH_MS = 3000
"""The trace was logged in batches of three seconds."""
BATCH_REQUESTS = 10.2
SHORTEST, LONGEST = 891, 126_195
FIRST_MEDIAN, FIRST_SIGMA = 6050.0, 1.14
"""First prompts in tokens: the median and ln(p84 / median) of those that extend nobody's."""
RETURNS = 0.45
"""The chance that a request is followed by another one of its conversation, were there no end of the hour."""
PAUSE_MEDIAN_S, PAUSE_SIGMA = 145.0, 1.0
KEEPS_ALL = 0.75
"""Of those that return; the others keep a uniform share of the last prompt."""
MORE_MEDIAN, MORE_SIGMA = 700.0, 1.6
"""Tokens that a returning prompt has beyond what it keeps."""
ANSWER_SHORT, ANSWER_SHORT_MEAN = 0.2, 60.0
ANSWER_MEAN, ANSWER_DEVIATION, ANSWER_MOST = 415.0, 185.0, 2000
"""A fifth of the answers are a few words, the others bell-shaped."""


def conversation(chance: "Random", *, number: int = REQUESTS) -> list[Row]:
    """``number`` rows; 12,031 of them take about an hour. The same chance gives the same rows."""
    names = count(1)
    rows: list[Row] = []
    pending: list[tuple[float, int, Row]] = []  # when a conversation returns; ties by age
    for batch in count():
        now_ms = float(batch * BATCH_MS)
        for _ in range(_poisson(BATCH_REQUESTS, chance)):
            if len(rows) == number:
                return rows
            if pending and pending[0][0] <= now_ms:
                row = _returning(heappop(pending)[2], now_ms, names, chance)
            else:
                length = chance.lognormvariate(log(FIRST_MEDIAN), FIRST_SIGMA)
                row = _row(now_ms, (0,), length, names, chance)
            if chance.random() < RETURNS:
                pause_ms = 1e3 * chance.lognormvariate(log(PAUSE_MEDIAN_S), PAUSE_SIGMA)
                heappush(pending, (now_ms + pause_ms, len(rows), row))
            rows.append(row)
    raise AssertionError("batches never end")


def _returning(last: Row, now_ms: float, names: "count[int]", chance: "Random") -> Row:
    full = last.input_length // BLOCK_TOKENS
    kept = full if chance.random() < KEEPS_ALL else chance.randrange(full + 1)
    more = chance.lognormvariate(log(MORE_MEDIAN), MORE_SIGMA)
    before = last.input_length if kept == full else kept * BLOCK_TOKENS
    return _row(now_ms, last.hash_ids[: max(1, kept)], before + more, names, chance)


def _row(now_ms: float, known: tuple[int, ...], length: float, names: "count[int]", chance: "Random") -> Row:
    """A prompt that begins with these blocks."""
    tokens = max(SHORTEST, min(LONGEST, round(length)))
    blocks = -(-tokens // BLOCK_TOKENS)
    kept = known[:blocks]
    fresh = tuple(next(names) for _ in range(blocks - len(kept)))
    return Row(now_ms, tokens, _answer(chance), kept + fresh)


def _answer(chance: "Random") -> int:
    if chance.random() < ANSWER_SHORT:
        return 1 + int(chance.expovariate(1.0 / ANSWER_SHORT_MEAN))
    return max(1, min(ANSWER_MOST, round(chance.gauss(ANSWER_MEAN, ANSWER_DEVIATION))))


def _poisson(mean: float, chance: "Random") -> int:
    """How many exponential gaps fit."""
    number, at = 0, chance.expovariate(mean)
    while at < 1.0:
        number, at = number + 1, at + chance.expovariate(mean)
    return number
