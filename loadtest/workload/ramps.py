"""A rate that rises from one to another over a run, or falls: where a system tips over, in one run.

The rate goes by how many requests have come, not by the time, as in ``vllm bench serve``; gaps are not renormalised.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import ceil, log
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
        """How many requests take about so long: the mean gap is the integral of 1 / rate over progress."""
        start, end = self.start_per_s, self.end_per_s
        if start == end:
            gap_s = 1.0 / start
        elif self.strategy is Strategy.LINEAR:
            gap_s = log(end / start) / (end - start)
        else:
            gap_s = (1.0 / start - 1.0 / end) / log(end / start)
        return ceil(duration_s / gap_s)


def planned(number: int, ramp: Ramp, burstiness: float, chance: "Random") -> list[float]:
    """``number`` arrivals along it; burstiness: as of ``arrivals.planned``."""
    if not burstiness > 0.0:
        raise ValueError(f"burstiness is above 0, not {burstiness}")
    found, now = [], 0.0
    for place in range(number):
        rate_per_s = ramp.rate_per_s(place / max(1, number - 1))
        now += chance.gammavariate(burstiness, 1.0 / (rate_per_s * burstiness))
        found.append(now)
    return found
