"""A row of a benchmark, and rates of work that is done in turns."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """limit: what this machine can do at all, measured in the same run. ratio: how close we are, 1 being there."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    ratio: float | None = None

    @classmethod
    def rate(cls, name: str, value: float, unit: str, limit: float) -> "Row":
        """The more the better."""
        return cls(name, value, unit, limit, value / limit)

    @classmethod
    def duration(cls, name: str, value: float, unit: str, limit: float) -> "Row":
        """The less the better."""
        return cls(name, value, unit, limit, limit / value)


Work = Callable[[], Awaitable[object]]


async def in_turns(works: dict[str, Work], rounds: int, *, warm: int = 1) -> dict[str, float]:
    """Median seconds of each, after ``warm`` rounds that don't count; a neighbour's noise falls on all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(warm + rounds):
        for name, work in works.items():
            started = time.perf_counter()
            await work()
            if number >= warm:
                times[name].append(time.perf_counter() - started)
    return {name: median(samples) for name, samples in times.items()}
