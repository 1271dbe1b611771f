"""Prompts that share long beginnings: a few documents or system prompts, some asked about far oftener than others."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import TYPE_CHECKING

from loadtest.request import Request, Span
from loadtest.workload.lengths import Lengths

if TYPE_CHECKING:
    from random import Random


DOCUMENT = Lengths(4000, 8000)
QUESTION = ANSWER = Lengths(100, 200)


@dataclass(frozen=True, slots=True)
class Mix:
    """``prefixes`` beginnings; the k-th is asked for in proportion to k ** -skew (0: all alike)."""

    prefixes: int = 20
    prefix: Lengths = DOCUMENT
    skew: float = 1.0
    question: Lengths = QUESTION
    answer: Lengths = ANSWER


def shared_prefixes(arrivals: Iterator[float], number: int, mix: Mix, *, chance: "Random") -> list[Request]:
    """``number`` requests at the first times of ``arrivals``."""
    if number < 1 or mix.prefixes < 1 or mix.skew < 0.0:
        raise ValueError(f"no mix: {number} requests of {mix}")
    beginnings = [Span(place, mix.prefix.draw(chance)) for place in range(mix.prefixes)]
    weights = list(accumulate((place + 1) ** -mix.skew for place in range(mix.prefixes)))
    asked = []
    for place, at_s in enumerate(islice(arrivals, number)):
        (beginning,) = chance.choices(beginnings, cum_weights=weights)
        question = Span(mix.prefixes + 2 * place, mix.question.draw(chance))
        answer = Span(mix.prefixes + 2 * place + 1, mix.answer.draw(chance))
        asked.append(Request(at_s, (beginning, question), answer))
    return asked
