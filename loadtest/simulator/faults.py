"""What goes wrong on a simulated cluster, and when: chosen from a seed, so that a failing run can be run again."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True)
class Death:
    """A host's worker and store are killed; both come back empty. host: its place among all workers."""

    host: int
    at_s: float
    back_s: float


@dataclass(frozen=True, slots=True)
class Slow:
    """A host's engine takes ``factor`` times as long, and doesn't know it."""

    host: int
    at_s: float
    until_s: float
    factor: float


@dataclass(frozen=True, slots=True)
class Silence:
    """A host's reports are lost; everything else goes on."""

    host: int
    at_s: float
    until_s: float


Fault = Death | Slow | Silence


def faults(
    *, hosts: int, span_s: float, deaths: int = 0, slow: int = 0, silences: int = 0, chance: "Random"
) -> list[Fault]:
    """So many of each within the first ``span_s`` seconds; hosts may be hit more than once, dead ones too.

    A death lasts 5 to 60 s, slowness (2 to 5 times) and silence as long.
    """

    def when() -> tuple[int, float, float]:
        host, at_s, lasts_s = chance.randrange(hosts), chance.uniform(0.0, span_s), chance.uniform(5.0, 60.0)
        return host, at_s, at_s + lasts_s

    return [
        *(Death(*when()) for _ in range(deaths)),
        *(Slow(*when(), factor=chance.uniform(2.0, 5.0)) for _ in range(slow)),
        *(Silence(*when()) for _ in range(silences)),
    ]
