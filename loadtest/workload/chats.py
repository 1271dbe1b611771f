"""Chats of several turns: each prompt is all that was said so far, and something new.

A turn comes when the one before has ended and its reader has thought, so a slow system is asked later:
closed inside a chat, open between chats.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING

from loadtest.request import Request, Span
from loadtest.workload.lengths import Lengths

if TYPE_CHECKING:
    from random import Random


QUESTION = Lengths(60, 120)
ANSWER = Lengths(200, 340)
"""The mean is that of the public conversation trace."""


@dataclass(frozen=True, slots=True)
class Chat:
    """What chats are like. system_tokens: in front of every chat, 0 for none. think_s: mean, exponential."""

    system_tokens: int = 512
    turns: int = 5
    question: Lengths = QUESTION
    answer: Lengths = ANSWER
    think_s: float = 10.0


def chats(starts: Iterator[float], number: int, kind: Chat, *, chance: "Random") -> list[Request]:
    """``number`` chats of 1 to ``2 * kind.turns - 1`` turns that begin at the first times of ``starts``."""
    if number < 1 or kind.turns < 1 or kind.think_s < 0.0:
        raise ValueError(f"no chats: {number} of {kind}")
    contents = count(1)  # 0 is the system prompt's
    asked: list[Request] = []
    for start_s in islice(starts, number):
        said: tuple[Span, ...] = (Span(0, kind.system_tokens),) if kind.system_tokens else ()
        after: int | None = None
        for turn in range(chance.randrange(1, 2 * kind.turns)):
            said += (Span(next(contents), kind.question.draw(chance)),)
            answer = Span(next(contents), kind.answer.draw(chance))
            at_s = start_s if turn == 0 else chance.expovariate(1.0) * kind.think_s
            asked.append(Request(at_s, said, answer, after))
            after = len(asked) - 1
            said += (answer,)
    return asked
