"""Which clusters are worth trying: pure search over how many prefill and decode workers there are.

More workers of either kind never make it worse: that is assumed, so a frontier is a staircase

    D |  . . # # #
      |  . . x # #      . fails   # keeps   x on the frontier: keeps, but with one worker of either kind fewer fails
      |  . . . x #
      +------------ P   and is walked from the fewest prefill workers to the fewest decode workers
"""

from collections.abc import Callable, Iterator
from functools import partial

Keeps = Callable[[int, int], bool]
"""Whether so many prefill and so many decode workers keep the promise."""


def smallest(low: int, high: int, guess: int, keeps: Callable[[int], bool]) -> int | None:
    """The least of [low, high] that keeps, as if all above it did; None where none does.

    Begins at the guess and doubles its steps away from it, then halves what is left.
    """
    lost, kept, step = low - 1, high + 1, 1
    at = max(low, min(high, guess))
    while kept - lost > 1:
        if keeps(at):
            kept, onwards = at, at - step
        else:
            lost, onwards = at, at + step
        step *= 2
        at = onwards if lost < onwards < kept else (lost + kept) // 2
    return kept if kept <= high else None


def frontier(nodes: int, guess: tuple[int, int], keeps: Keeps) -> Iterator[tuple[int, int]]:
    """Every (prefill, decode) on it with at most so many nodes together, fewest prefill workers first.

    Asks about clusters with up to ``nodes`` - 1 of both: along a diagonal more of one is fewer of the other, and
    nothing could be halved.
    """
    assert nodes >= 2, "somebody prefills and somebody decodes"
    most = nodes - 1
    prefill, decode = smallest(1, most, guess[0], lambda each: keeps(each, most)), nodes
    while prefill is not None:
        found = smallest(1, decode - 1, guess[1], partial(keeps, prefill))
        assert found is not None, "with one fewer than before it was kept"
        if prefill + found <= nodes:
            yield prefill, found
        decode = found
        prefill = _more(prefill + 1, most, decode - 1, keeps)


def _more(least: int, most: int, decode: int, keeps: Keeps) -> int | None:
    """The fewest prefill workers, from ``least`` on, with which so few decode workers are enough."""
    return smallest(least, most, least, lambda each: keeps(each, decode)) if decode else None
