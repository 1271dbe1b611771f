"""What more load brings: requests per second that kept their bounds, and the share that did, against the rate asked."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from loadtest.report.axes import figure
from loadtest.report.looks import colour
from loadtest.report.plot import Plot
from loadtest.report.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]
LINES = {
    "request_throughput": ("finished", "sky", "--", "s"),
    "request_goodput": ("finished within the bounds (goodput)", "blue", "-", "o"),
}


def goodput(runs: Sequence[Run], *, sweep: dict[str, Any] | None = None) -> Iterator[Plot]:
    """Nothing where all runs were at one rate. sweep: what a sweep found of these runs (JSON)."""
    if len({run.rate for run in runs} - {None}) < 2:
        return
    yield _per_second(runs, sweep or {})
    if _points(runs, "slo_attainment"):
        yield _attained(runs, sweep or {})


def _per_second(runs: Sequence[Run], sweep: dict[str, Any]) -> Plot:
    drawn = figure(5.2, 3.9)
    axes = drawn.subplots()
    rates = sorted(rate for run in runs if (rate := run.rate) is not None)
    axes.plot(rates, rates, color=colour("faint"), linewidth=1.0, linestyle=":", label="offered")
    for key, (words, tone, dash, marker) in LINES.items():
        _line(axes, _points(runs, key), label=words, tone=tone, dash=dash, marker=marker)
    axes.set_ylabel("requests per second")
    _finish(axes, sweep)
    drawn.legend(loc="outside lower left", ncols=2)
    return Plot("goodput", "Goodput against rate", _words(runs), drawn)


def _attained(runs: Sequence[Run], sweep: dict[str, Any]) -> Plot:
    drawn = figure(5.2, 3.9)
    axes = drawn.subplots()
    shares = [(rate, 100.0 * share) for rate, share in _points(runs, "slo_attainment")]
    _line(axes, shares, label="within the bounds", tone="blue", dash="-", marker="o")
    if (target := sweep.get("attainment_target")) is not None:
        axes.axhline(100.0 * target, color=colour("vermillion"), linewidth=1.0, linestyle="--", label="asked")
    axes.set_ylabel("share of offered requests")
    axes.yaxis.set_major_formatter(lambda value, place: f"{value:g} %")
    axes.set_ylim(0.0, 104.0)
    _finish(axes, sweep)
    drawn.legend(loc="outside lower left", ncols=2)
    words = sweep.get("sentence") or "How many of the offered requests finished within every bound."
    return Plot("attainment", "Share within the bounds, against rate", str(words), drawn)


def _points(runs: Sequence[Run], key: str) -> list[Point]:
    return sorted(
        (run.rate, float(value)) for run in runs if run.rate is not None and (value := run.summary.get(key)) is not None
    )


def _line(axes: "Axes", points: Sequence[Point], *, label: str, tone: str, dash: str, marker: str) -> None:
    """Every run a marker, the line through the median of each rate."""
    if not points:
        return
    by_rate = defaultdict(list)
    for rate, value in points:
        by_rate[rate].append(value)
    axes.plot(list(by_rate), [np.median(values) for values in by_rate.values()], dash, color=colour(tone), label=label)
    axes.plot(*zip(*points, strict=True), marker, markersize=4.5, color=colour(tone), alpha=0.8, linestyle="none")


def _finish(axes: "Axes", sweep: dict[str, Any]) -> None:
    low, high = sweep.get("rate"), sweep.get("rate_above")
    if low is not None and high is not None:
        axes.axvspan(low, high, color=colour("rule"), label="the border lies here")
    axes.set_xlabel("rate asked, requests per second")
    axes.set_xlim(left=0.0)
    axes.set_ylim(bottom=0.0)


def _words(runs: Sequence[Run]) -> str:
    best = max(_points(runs, "request_goodput"), key=lambda point: point[1], default=None)
    if best is None:
        return f"{len(runs)} runs; no bounds were asked for, so that there is no goodput."
    return f"{len(runs)} runs. The most goodput, {best[1]:.3g} requests per second, was at a rate of {best[0]:.3g}."
