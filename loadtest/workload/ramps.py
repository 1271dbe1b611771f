"""A rate that rises from one to another over a run, or falls: where a system tips over, in one run.

The rate goes by how many requests have come, not by the time, as in ``vllm bench serve``; unlike there, gaps are scaled
so that they take together what regular ones would: a ramp lasts as long as was asked for, and reaches its end.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from math import inf, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


class Strategy(StrEnum):
    LINEAR = "linear"
    EXPONENTIAL = "exponential"


@dataclass(frozen=True, slots=True)
class Ramp:
    """From ``start_per_s`` at the first request to ``end_per_s`` at the last."""

    strategy: Strategy
    start_per_s: float
    end_per_s: float

    def __post_init__(self) -> None:
        if not (self.start_per_s > 0.0 and self.end_per_s > 0.0):
            raise ValueError(f"a ramp goes between rates above 0, not from {self.start_per_s} to {self.end_per_s}")

    def rate_per_s(self, progress: float) -> float:
        """progress: 0 at the first request, 1 at the last."""
        start, end = self.start_per_s, self.end_per_s
        if self.strategy is Strategy.LINEAR:
            return start + (end - start) * progress
        return float(start * (end / start) ** progress)

    def number(self, duration_s: float) -> int:
        """How many requests take about so long, and no longer.

        The mean gap is the integral of 1 / rate over progress; the sum of n of them is n - 1 of those, and half of the
        first and the last.
        """
        start, end = self.start_per_s, self.end_per_s
        if start == end:
            gap_s = 1.0 / start
        elif self.strategy is Strategy.LINEAR:
            gap_s = log(end / start) / (end - start)
        else:
            gap_s = (1.0 / start - 1.0 / end) / log(end / start)
        ends_s = (1.0 / start + 1.0 / end) / 2.0
        return max(1, 1 + int((duration_s - ends_s) / gap_s))


def planned(number: int, ramp: Ramp, burstiness: float, chance: "Random") -> list[float]:
    """``number`` arrivals along it, the last when regular ones would end; burstiness: as of ``arrivals.planned``."""
    if not burstiness > 0.0:
        raise ValueError(f"burstiness is above 0, not {burstiness}")
    regular = [1.0 / ramp.rate_per_s(place / max(1, number - 1)) for place in range(number)]
    if burstiness == inf:
        return list(accumulate(regular))
    drawn = list(accumulate(chance.gammavariate(burstiness, gap_s / burstiness) for gap_s in regular))
    scale = sum(regular) / drawn[-1] if drawn and drawn[-1] > 0.0 else 1.0
    return [at_s * scale for at_s in drawn]
