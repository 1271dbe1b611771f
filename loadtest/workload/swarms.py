"""A swarm of agents: one root prompt, many branches from it at once, and hundreds of short turns in each.

A branch reads the root and what it has done itself; each turn adds a tool's result and a short answer and
follows the one before at once. So prompts are long, answers short, and nearly everything was computed before.
"""

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from loadtest.request import Request, Span
from loadtest.workload.lengths import Lengths

if TYPE_CHECKING:
    from random import Random


RESULT = Lengths(60, 120)
ANSWER = Lengths(30, 60)


@dataclass(frozen=True, slots=True)
class Swarm:
    """tool_s: mean time until a tool's result is there, exponential. most_tokens: no branch's prompt gets longer."""

    root_tokens: int = 8000
    branches: int = 32
    turns: int = 200
    result: Lengths = RESULT
    answer: Lengths = ANSWER
    tool_s: float = 0.5
    most_tokens: int = 100_000


def swarm(kind: Swarm, *, start_s: float = 0.0, contents: int = 0, chance: "Random") -> list[Request]:
    """One swarm: first the root alone, then, when it has been answered, all branches turn by turn.

    contents: the first number of its content, so that several swarms in one workload share nothing.
    """
    if min(kind.root_tokens, kind.branches, kind.turns) < 1 or kind.tool_s < 0.0:
        raise ValueError(f"no swarm: {kind}")
    numbers = count(contents)
    root = Span(next(numbers), kind.root_tokens)
    plan = Span(next(numbers), kind.answer.draw(chance))
    asked = [Request(start_s, (root,), plan)]
    for _ in range(kind.branches):
        said: tuple[Span, ...] = (root, plan)
        length, after = root.tokens + plan.tokens, 0
        for _ in range(kind.turns):
            result = Span(next(numbers), kind.result.draw(chance))
            answer = Span(next(numbers), kind.answer.draw(chance))
            said += (result,)
            length += result.tokens
            if length > kind.most_tokens:
                break
            asked.append(Request(chance.expovariate(1.0) * kind.tool_s, said, answer, after))
            after = len(asked) - 1
            said += (answer,)
            length += answer.tokens
    return asked
