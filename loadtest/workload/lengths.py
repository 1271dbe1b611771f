"""How long prompts and answers are: log-normal, as logs of chat services are, by mean and median."""

from dataclasses import dataclass
from math import exp, log, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens, at least 1 and at most ``most``. mean = median * exp(sigma^2 / 2); mean == median: always that."""

    median: float
    mean: float
    most: int = 1 << 20

    def __post_init__(self) -> None:
        if not 1 <= self.median <= self.mean:
            raise ValueError(f"lengths need 1 <= median <= mean, not {self.median} and {self.mean}")

    def draw(self, chance: "Random") -> int:
        sigma = sqrt(2.0 * log(self.mean / self.median))
        return max(1, min(self.most, round(self.median * exp(chance.gauss(0.0, sigma)))))


def always(tokens: int) -> Lengths:
    return Lengths(tokens, tokens)
