"""A plan: the frontier of clusters that keep a goal, each with the least DRAM that is enough, and the smallest."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.plan.goal import Verdict
from loadtest.plan.search import frontier, smallest
from loadtest.plan.trials import Trials


@dataclass(frozen=True, slots=True)
class Plan:
    """frontier: all simulated, fewest prefill workers first. smallest: of these; None where there is none."""

    frontier: tuple[Verdict, ...]
    smallest: Verdict | None


def plan(trials: Trials, *, nodes: int, guess: tuple[int, int], drams: Sequence[int]) -> Plan:
    """drams: bytes of a store that may be had, ascending; how many workers is decided with the most of it.

    The smallest was simulated, and so were its neighbours with one worker fewer. Should one of them keep the goal
    after all, because more was worse for once, the plan goes on from there.
    """
    most = drams[-1]
    found = list(frontier(nodes, guess, lambda prefill, decode: trials.keeps(prefill, decode, most)))
    at = min(found, key=sum, default=None)
    while at is not None and (fewer := _fewer(trials, at, most)) is not None:
        found = [pair for pair in found if pair[0] < fewer[0] or pair[1] < fewer[1]] + [fewer]
        at = fewer
    verdicts = [_least_dram(trials, pair, drams) for pair in sorted(found)]
    return Plan(tuple(verdicts), min(verdicts, key=_cost, default=None))


def _fewer(trials: Trials, pair: tuple[int, int], dram_bytes: int) -> tuple[int, int] | None:
    """A neighbour with one worker fewer that keeps the goal: simulated, not inferred."""
    prefill, decode = pair
    for each in ((prefill - 1, decode), (prefill, decode - 1)):
        if min(each) >= 1 and _simulated(trials, each, dram_bytes):
            return each
    return None


def _least_dram(trials: Trials, pair: tuple[int, int], drams: Sequence[int]) -> Verdict:
    """With the most of it the goal is kept. Simulated, not inferred: what larger clusters missed says little here."""
    most = len(drams) - 1
    least = smallest(0, most, most, lambda place: place == most or _simulated(trials, pair, drams[place]))
    assert least is not None, "the most is enough"
    return trials.verdict(*pair, drams[least])


def _simulated(trials: Trials, pair: tuple[int, int], dram_bytes: int) -> bool:
    return trials.kept(trials.verdict(*pair, dram_bytes))


def _cost(found: Verdict) -> tuple[int, int, int]:
    """Fewest nodes, then the least DRAM of all together, then fewest prefill workers."""
    return found.nodes, found.nodes * found.dram_bytes, found.prefill
