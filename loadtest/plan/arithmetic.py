"""What a trace asks of a machine, by arithmetic: where the search begins, and what no cluster can do.

Prefill: seconds of prefill that come in a second, had every prefix been found again. Decode: by Little's law, if
steps took just what is promised, so many sequences run at a time; and a step in which more than so many take part
takes longer than that.
"""

from collections.abc import Sequence
from math import ceil

from loadtest.plan.goal import Goal
from loadtest.simulator.machine import Machine
from loadtest.traces import Row
from loadtest.traces.trace import BLOCK_TOKENS
from scheduler.estimate import prefill_s, step_s


def begin_at(
    rows: Sequence[Row], machine: Machine, goal: Goal, *, speed: float, block_tokens: int = BLOCK_TOKENS
) -> tuple[int, int]:
    """So many prefill and decode workers, about."""
    span_s = max((rows[-1].timestamp - rows[0].timestamp) / 1000 / speed, goal.ttft_s)
    prefills_s = sum(
        prefill_s(machine.profile, row.input_length, cached)
        for row, cached in zip(rows, _cached(rows, block_tokens), strict=True)
    )
    answers = sum(row.output_length for row in rows)
    length = sum(row.output_length * (row.input_length + row.output_length / 2) for row in rows) / answers
    running = answers / span_s * goal.tbt_s
    return max(1, ceil(prefills_s / span_s)), max(1, ceil(running / _together(machine, goal, length)))


def balanced(guess: tuple[int, int], nodes: int) -> tuple[int, int]:
    """All of so many nodes, split as the guess is."""
    prefill = max(1, min(nodes - 1, round(nodes * guess[0] / sum(guess))))
    return prefill, nodes - prefill


def impossible(rows: Sequence[Row], machine: Machine, goal: Goal, *, block_tokens: int = BLOCK_TOKENS) -> str | None:
    """A sentence, where no number of nodes is enough: even alone on a node, and with all of its prefix cached."""
    if step_s(machine.profile, 1, 0) > goal.tbt_s:
        alone_s = step_s(machine.profile, 1, 0)
        return f"a decode step takes {alone_s:.3g} s on {machine.name} though nobody else is there"
    hopeless = sum(
        prefill_s(machine.profile, row.input_length, cached) > goal.ttft_s
        for row, cached in zip(rows, _cached(rows, block_tokens), strict=True)
    )
    if 1 - hopeless / len(rows) < goal.goodput:
        return (
            f"{100 * hopeless / len(rows):.1f} % of the prompts take longer than {goal.ttft_s:g} s to prefill on an "
            f"idle {machine.name}, with all cached that was asked before"
        )
    return None


def _cached(rows: Sequence[Row], block_tokens: int) -> list[int]:
    """Tokens of each that had been asked for before; the last token is always computed."""
    seen: set[int] = set()
    found = []
    for row in rows:
        held = next((place for place, name in enumerate(row.hash_ids) if name not in seen), len(row.hash_ids))
        found.append(min(held * block_tokens, row.input_length - 1))
        seen.update(row.hash_ids)
    return found


def _together(machine: Machine, goal: Goal, length: float) -> float:
    """Sequences of ``length`` tokens that one node decodes within the promise, and has room for."""
    base, each, token = machine.profile.step_s
    return max(1.0, min((goal.tbt_s - base) / (each + token * length), machine.device_tokens / length))
