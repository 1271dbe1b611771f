"""How values spread: the six figures that every latency is given by."""

from collections.abc import Iterable

import numpy as np

FIGURES = ("mean", "median", "std", "p50", "p90", "p99")


def spread(values: Iterable[float], *, unit: float = 1.0) -> dict[str, float | None]:
    """In ``unit``; nulls where there are none. std is of the population, percentiles are interpolated: numpy's."""
    array = np.fromiter(values, dtype=np.float64)
    if not array.size:
        return dict.fromkeys(FIGURES)
    p50, p90, p99 = (float(value) for value in np.percentile(array, (50, 90, 99)))
    found = (float(array.mean()), float(np.median(array)), float(array.std()), p50, p90, p99)
    return {name: value / unit for name, value in zip(FIGURES, found, strict=True)}


def named(name: str, figures: dict[str, float | None]) -> dict[str, float | None]:
    """As ``vllm bench serve`` spells them: ``mean_ttft_ms``."""
    return {f"{figure}_{name}": value for figure, value in figures.items()}
