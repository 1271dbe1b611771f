"""When requests arrive: endless iterators of seconds since the beginning, ascending."""

from collections.abc import Iterator
from itertools import count, islice, repeat
from math import inf
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


def planned(number: int, rate_per_s: float, burstiness: float, chance: "Random") -> list[float]:
    """``number`` arrivals, as ``vllm bench serve`` plans them: the last at exactly number / rate, so the rate is exact.

    burstiness: the shape of the gamma that gaps are drawn from; 1 is Poisson, below it come bursts, infinity is every
    1 / rate seconds. A rate of infinity is all at once.
    """
    if rate_per_s == inf:
        return list(repeat(0.0, number))
    if burstiness == inf:
        return [(place + 1) / rate_per_s for place in range(number)]
    if not burstiness > 0.0:
        raise ValueError(f"burstiness is above 0, not {burstiness}")
    drawn = list(islice(gamma(rate_per_s, burstiness**-0.5, chance), number))
    scale = number / rate_per_s / drawn[-1] if drawn and drawn[-1] > 0.0 else 1.0
    return [at_s * scale for at_s in drawn]


def _gamma(rate_per_s: float, variation: float, chance: "Random") -> Iterator[float]:
    shape = variation**-2
    now = 0.0
    while True:
        now += chance.gammavariate(shape, 1.0 / (rate_per_s * shape))
        yield now


def _check(rate_per_s: float) -> None:
    if not rate_per_s > 0.0:
        raise ValueError(f"a rate is above 0 requests per second, not {rate_per_s}")
