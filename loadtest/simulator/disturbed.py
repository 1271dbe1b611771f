"""Engines that are not what their profiles say: slower for good, and never twice the same.

Every step takes ``factor`` times what the profile says, times noise whose logarithm is normal: a machine on which
others work, too. Seeded by worker, so that a run can be repeated.
"""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Disturbed:
    """factor: of every step. spread: standard deviation of the noise's logarithm, about that of a step in parts."""

    factor: float = 1.0
    spread: float = 0.0
    seed: int = 0


class Noise:
    """One worker's steps."""

    def __init__(self, disturbed: Disturbed, worker: str) -> None:
        self._disturbed = disturbed
        self._chance = Random(f"{disturbed.seed} {worker}")

    def next(self) -> float:
        """What the next step takes, of what the profile says."""
        return self._disturbed.factor * self._chance.lognormvariate(0.0, self._disturbed.spread)
