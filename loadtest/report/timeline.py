"""One run over time: what requests met, what came and was refused, what was under way, and each pool's load."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from loadtest.record import Outcome, PoolSample
from loadtest.report.axes import figure, reach, seconds
from loadtest.report.looks import ROLES, colour
from loadtest.report.plot import Plot
from loadtest.report.run import Floats, Run
from loadtest.report.thinning import edges, in_flight, kept, median_by_bin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOMENTS = 240
FEWEST = 5
"""Requests that a median is of, about: of fewer its line would only join dots, in pieces."""

UNHAPPY = {Outcome.REFUSED: "vermillion", Outcome.FAILED: "purple", Outcome.CANCELLED: "faint"}
Panel = Callable[["Axes", Run], None]


def timeline(run: Run, *, name: str) -> Plot:
    """Everything that has a time, on one axis of time."""
    panels: list[Panel] = [_ttft, _tpot, _offered, _under_way]
    if run.pools:
        panels.append(_load)
    if any(sample.queued_tokens for sample in run.pools):
        panels.append(_queued)
    if any(sample.kv_used is not None for sample in run.pools):
        panels.append(_kv)
    drawn = figure(9.2, 0.5 + 1.55 * len(panels))
    every = drawn.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(every, panels, strict=True):
        panel(axes, run)
        axes.set_ylim(bottom=0.0 if axes.get_yscale() == "linear" else None)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05), borderaxespad=0.3)
    every[-1].set_xlabel("seconds since the beginning")
    every[-1].set_xlim(0.0, max(run.span_s, 1e-3))
    return Plot(name, f"{run.name} over time", _words(run), drawn)


def _ttft(axes: "Axes", run: Run) -> None:
    axes.set_title("TTFT, by when the request was sent")
    _dots(axes, run, run.columns.ttft_s, bound=run.bound_s("ttft"), tone="blue")


def _tpot(axes: "Axes", run: Run) -> None:
    axes.set_title("TPOT, by when the request was sent")
    _dots(axes, run, run.columns.tpot_s, bound=run.bound_s("tpot"), tone="green")


def _dots(axes: "Axes", run: Run, values: Floats, *, bound: float | None, tone: str) -> None:
    sent_s = run.columns.sent_s
    places = kept(values)
    axes.plot(sent_s[places], values[places], ".", markersize=3.0, color=colour(tone), alpha=0.45, label="a request")
    at = edges(run.span_s, most=min(60, max(4, len(places) // FEWEST)))
    middle, medians = (at[:-1] + at[1:]) / 2, median_by_bin(sent_s, values, at)
    known = ~np.isnan(medians)
    axes.plot(middle[known], medians[known], color=colour("ink"), linewidth=1.3, label="median")
    if bound is not None:
        axes.axhline(bound, color=colour("vermillion"), linewidth=1.0, linestyle="--", label="bound")
    seconds(axes, "y", values)


def _offered(axes: "Axes", run: Run) -> None:
    columns = run.columns
    at = edges(run.span_s, most=60)
    width = at[1] - at[0]
    offered = np.histogram(columns.sent_s, at)[0] / width
    axes.set_title("Requests per second: offered, and what became of those that didn't finish")
    axes.step(at, [*offered, offered[-1]], where="post", color=colour("ink"), linewidth=1.2, label="offered")
    below = np.zeros(len(offered))
    for outcome, tone in UNHAPPY.items():
        rate = np.histogram(columns.sent_s[columns.are(outcome)], at)[0] / width
        if rate.any():
            axes.bar(at[:-1], rate, width, bottom=below, align="edge", color=colour(tone), label=outcome.value)
            below += rate


def _under_way(axes: "Axes", run: Run) -> None:
    columns = run.columns
    at = np.linspace(0.0, run.span_s, MOMENTS)
    first_s = np.fmin(np.nan_to_num(columns.first_s, nan=np.inf), columns.ended_s)
    waiting, all_of_them = in_flight(columns.sent_s, first_s, at), in_flight(columns.sent_s, columns.ended_s, at)
    axes.set_title("Requests under way, as the clients see them")
    tones = (colour(ROLES["prefill"]), colour(ROLES["decode"]))
    words = ("until first token", "decoding")
    axes.stackplot(at, waiting, all_of_them - waiting, colors=tones, labels=words, alpha=0.75, linewidth=0.0)


def _load(axes: "Axes", run: Run) -> None:
    axes.set_title("Load of each pool: requests running (lines) and waiting (dotted)")
    for role, samples in _by_role(run).items():
        at = [sample.at_s for sample in samples]
        tone = colour(ROLES.get(role, "purple"))
        axes.plot(at, [sample.running for sample in samples], color=tone, linewidth=1.3, label=f"{role}, running")
        axes.plot(at, [sample.waiting for sample in samples], ":", color=tone, linewidth=1.3, label=f"{role}, waiting")


def _queued(axes: "Axes", run: Run) -> None:
    axes.set_title("Prompt tokens that each pool has still to compute")
    axes.yaxis.set_major_formatter(lambda value, place: f"{value:,.0f}")
    for role, samples in _by_role(run).items():
        known = [(sample.at_s, sample.queued_tokens) for sample in samples if sample.queued_tokens is not None]
        if any(tokens for _, tokens in known):
            axes.plot(*zip(*known, strict=True), color=colour(ROLES.get(role, "purple")), linewidth=1.3, label=role)


def _kv(axes: "Axes", run: Run) -> None:
    axes.set_title("KV blocks in use on each pool's devices")
    for role, samples in _by_role(run).items():
        known = [(sample.at_s, 100.0 * sample.kv_used) for sample in samples if sample.kv_used is not None]
        if known:
            axes.plot(*zip(*known, strict=True), color=colour(ROLES.get(role, "purple")), linewidth=1.3, label=role)
    axes.yaxis.set_major_formatter(lambda value, place: f"{value:g} %")


def _by_role(run: Run) -> dict[str, list[PoolSample]]:
    """At most so many samples each that a line can show."""
    roles = sorted({sample.role for sample in run.pools})
    found = {role: [sample for sample in run.pools if sample.role == role] for role in roles}
    return {role: samples[:: -(-len(samples) // MOMENTS)] for role, samples in found.items()}


def _words(run: Run) -> str:
    columns = run.columns
    counts = ", ".join(f"{int(columns.are(outcome).sum())} {outcome.value}" for outcome in Outcome)
    return f"{len(columns)} requests offered in {reach(run.span_s)}: {counts}."
