"""Two things measured in pairs: by how much they differ, and whether by more than noise. Pure.

Pairs share what varies between them (arrivals, the hour), so each gives one ratio. The median ratio's interval is that
of the sign test: from one order statistic to another, right whatever the distribution, and without chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import comb, inf
from statistics import median

COVERAGE = 0.95
FEWEST = 6
"""Pairs: of fewer, even if all agree, chance alone would do the same more often than one time in 20 (2 × 0.5^5)."""


class Verdict(StrEnum):
    """Of a measure."""

    HIGHER = "higher"
    LOWER = "lower"
    NOISE = "within noise"
    FEW = "too few pairs to tell"


@dataclass(frozen=True, slots=True)
class Paired:
    """Ratios b : a in the order of their pairs. low, high: of the median's interval, None with too few pairs.

    To nothing, something is infinite, and nothing is equal: such a pair says as much as any other about which is more.
    coverage: how often such an interval holds the true median, at least ``COVERAGE``.
    """

    ratios: tuple[float, ...]
    low: float | None
    high: float | None
    coverage: float | None

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def verdict(self) -> Verdict:
        if self.low is None or self.high is None:
            return Verdict.FEW
        if self.low > 1.0:
            return Verdict.HIGHER
        return Verdict.LOWER if self.high < 1.0 else Verdict.NOISE


def paired(pairs: Sequence[tuple[float, float]]) -> Paired | None:
    """Of (a, b), none below 0; None of no pair."""
    assert all(a >= 0.0 and b >= 0.0 for a, b in pairs), "a ratio of what is below 0 says nothing"
    if not pairs:
        return None
    ratios = tuple(_ratio(a, b) for a, b in pairs)
    ordered, depth = sorted(ratios), _depth(len(ratios))
    if depth is None:
        return Paired(ratios, None, None, None)
    return Paired(ratios, ordered[depth], ordered[-1 - depth], 1.0 - 2.0 * _at_most(depth, len(ratios)))


def as_json(ratio: float | None) -> float | str | None:
    """JSON has no infinity: the word, as everywhere else."""
    return "inf" if ratio == inf else ratio


def ratio_as(ratio: float | str) -> str:
    """To three digits; ``inf`` as it is."""
    return ratio if isinstance(ratio, str) else f"{ratio:.3f}"


def _ratio(a: float, b: float) -> float:
    if a > 0.0:
        return b / a
    return inf if b > 0.0 else 1.0


def _depth(number: int) -> int | None:
    """How many of the smallest and of the largest ratios the interval leaves out; None: even all are too few."""
    depths = [depth for depth in range((number + 1) // 2) if 1.0 - 2.0 * _at_most(depth, number) >= COVERAGE]
    return max(depths, default=None)


def _at_most(successes: int, number: int) -> float:
    """How likely a fair coin gives at most so many heads."""
    return sum(comb(number, each) for each in range(successes + 1)) / 2.0**number
