"""The time to the first token that was predicted when a request was admitted, against what it took."""

import numpy as np

from loadtest.report.axes import figure, seconds
from loadtest.report.looks import colour
from loadtest.report.plot import Plot
from loadtest.report.run import Run
from loadtest.report.thinning import kept

CLOSE = 0.25
"""Predictions within a quarter of what happened lie in the band."""


def predicted(run: Run, *, name: str) -> Plot | None:
    """None where nobody predicted."""
    columns = run.columns
    known = ~(np.isnan(columns.predicted_s) | np.isnan(columns.ttft_s)) & (columns.predicted_s > 0.0)
    if not known.any():
        return None
    foretold, actual = columns.predicted_s[known], columns.ttft_s[known]
    places = kept(actual)
    foretold, actual = foretold[places], actual[places]
    drawn = figure(5.2, 4.8)
    axes = drawn.subplots()
    both = np.concatenate([foretold, actual])
    ends = np.asarray([both.min() * 0.8, both.max() * 1.25])
    axes.fill_between(ends, ends / (1 + CLOSE), ends / (1 - CLOSE), color=colour("rule"), label="within a quarter")
    axes.plot(ends, ends, color=colour("faint"), linewidth=1.2, label="exact")
    axes.plot(foretold, actual, ".", markersize=4.0, color=colour("blue"), alpha=0.5, label="a request")
    axes.set(xlim=ends, ylim=ends, xlabel="predicted TTFT", ylabel="actual TTFT")
    seconds(axes, "x", both, wide=8.0)
    seconds(axes, "y", both, wide=8.0)
    drawn.legend(loc="outside lower left", ncols=3)
    return Plot(name, f"{run.name}: predicted against actual TTFT", _words(run), drawn)


def _words(run: Run) -> str:
    found = run.summary.get("ttft_prediction")
    if not found:
        return "Above the line a request took longer than predicted."
    error, ratio = 100.0 * found["median_absolute_error"], found["median_ratio"]
    return (
        f"Above the line a request took longer than predicted. Of {found['requests']:,} predictions the median "
        f"error is {error:.0f} % of what happened, the median prediction {ratio:.2f} times it."
    )
