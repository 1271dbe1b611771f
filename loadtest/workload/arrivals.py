"""When requests arrive: endless iterators of seconds since the beginning, ascending."""

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


def constant(rate_per_s: float) -> Iterator[float]:
    """Every 1 / rate seconds, the first at 0."""
    _check(rate_per_s)
    return (place / rate_per_s for place in count())


def poisson(rate_per_s: float, chance: "Random") -> Iterator[float]:
    """Independent of each other: exponential gaps."""
    return gamma(rate_per_s, 1.0, chance)


def gamma(rate_per_s: float, variation: float, chance: "Random") -> Iterator[float]:
    """Gaps of mean 1 / rate and ``variation`` times that as their deviation: 1 is Poisson, above it come bursts."""
    _check(rate_per_s)
    if not variation > 0.0:
        raise ValueError(f"variation is a coefficient above 0, not {variation}")
    return _gamma(rate_per_s, variation, chance)


def _gamma(rate_per_s: float, variation: float, chance: "Random") -> Iterator[float]:
    shape = variation**-2
    now = 0.0
    while True:
        now += chance.gammavariate(shape, 1.0 / (rate_per_s * shape))
        yield now


def _check(rate_per_s: float) -> None:
    if not rate_per_s > 0.0:
        raise ValueError(f"a rate is above 0 requests per second, not {rate_per_s}")
