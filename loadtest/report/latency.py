"""How latencies are distributed: one plot a measure, runs over each other.

The share is of *offered* requests: a curve that ends below 1 belongs to a run that refused or failed some. Only those
that the harness itself cancelled are left out.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from loadtest.record import Outcome
from loadtest.report.axes import figure, reach, seconds
from loadtest.report.looks import colour, series
from loadtest.report.plot import Plot
from loadtest.report.run import Floats, Run
from loadtest.report.thinning import cumulative

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAR = 2.0
TOLD = 3
"""Runs whose figures stand beneath a plot each; of more, only their range."""

Values = Callable[[Run], Floats]

MEASURES: dict[str, tuple[str, Values]] = {
    "ttft": ("Time to first token (TTFT)", lambda run: run.columns.ttft_s),
    "tpot": ("Time per output token after the first (TPOT)", lambda run: run.columns.tpot_s),
    "itl": ("Gaps between tokens (ITL)", lambda run: run.gaps_s),
    "e2el": ("Until the last token (E2EL)", lambda run: run.columns.e2el_s),
}


TITLES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "E2EL"}
"""Of the axis: a picture that stands alone says what it shows."""


def latencies(runs: Sequence[Run]) -> Iterator[Plot]:
    """Those measures that any of the runs has."""
    for name, (title, values) in MEASURES.items():
        if any((~np.isnan(values(run))).any() for run in runs):
            yield _plot(name, title, values, runs)


def of(run: Run, name: str) -> int:
    """How many the shares are of."""
    columns = run.columns
    if name == "itl":
        return len(run.gaps_s)
    never = columns.are(Outcome.CANCELLED)
    if name == "tpot":  # an answer of one token keeps any bound on the time between tokens, and has none
        never |= columns.are(Outcome.FINISHED) & np.isnan(columns.tpot_s)
    return int((~never).sum())


def _plot(name: str, title: str, values: Values, runs: Sequence[Run]) -> Plot:
    drawn = figure(5.2, 3.5 if len(runs) > 1 else 3.2)
    axes = drawn.subplots()
    groups = list(dict.fromkeys(run.group for run in runs))
    told: set[str] = set()
    for run in runs:
        at, share = cumulative(values(run), of(run, name))
        if at.size:
            label = "_" if run.group in told else run.group
            told.add(run.group)
            axes.step(at, share, where="post", label=label, **series(groups.index(run.group), len(groups)))
    seconds(axes, "x", np.concatenate([values(run) for run in runs]))
    for bound in {bound for run in runs if (bound := run.bound_s(name)) is not None}:
        _bound(axes, bound)
    axes.set_ylim(0.0, 1.01)
    axes.set_xlabel(TITLES[name])
    axes.set_ylabel("share of gaps" if name == "itl" else "share of offered requests")
    if len(told) > 1:
        drawn.legend(loc="outside lower left", ncols=2)
    return Plot(name, title, _words([(run.name, values(run)) for run in runs]), drawn)


def _bound(axes: "Axes", at: float) -> None:
    """Where it is far beyond everything that was measured, it would only squeeze the curves: not drawn."""
    if at < FAR * axes.dataLim.x1:
        axes.axvline(at, color=colour("faint"), linewidth=1.0, linestyle=(0, (2, 2)))
        tone = colour("faint")
        axes.annotate("bound", (at, 0.0), (4, 4), textcoords="offset points", color=tone, fontsize=9)


def _words(found: Sequence[tuple[str, Floats]]) -> str:
    """Of each run, or of many the range."""
    known = {name: values[~np.isnan(values)] for name, values in found}
    points = {name: np.percentile(values, (50, 99)) for name, values in known.items() if values.size}
    if len(points) > TOLD:
        halves, most = np.asarray(list(points.values())).T
        return (
            f"Medians from {reach(halves.min())} to {reach(halves.max())}, "
            f"99th percentiles from {reach(most.min())} to {reach(most.max())}."
        )
    each = (f"{name}: median {reach(half)}, 99th percentile {reach(most)}" for name, (half, most) in points.items())
    return "; ".join(each) + "."
