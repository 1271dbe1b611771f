"""The slowest requests of a run, a bar each: waiting for the first token, then decoding, and its longest halt."""

from itertools import pairwise

import numpy as np

from loadtest.metrics.timing import e2el_s, input_tokens, output_tokens
from loadtest.record import Record
from loadtest.report.axes import figure, reach, seconds
from loadtest.report.looks import ROLES, colour
from loadtest.report.plot import Plot
from loadtest.report.run import Run


def waterfall(run: Run, *, name: str) -> Plot | None:
    """None where nothing finished."""
    if not run.slowest:
        return None
    drawn = figure(9.2, 1.0 + 0.27 * len(run.slowest))
    axes = drawn.subplots()
    places = range(len(run.slowest))
    first_s = [record.ttft_s or 0.0 for record in run.slowest]
    last_s = [e2el_s(record) or 0.0 for record in run.slowest]
    stops = [_longest_gap(record) for record in run.slowest]
    axes.barh(places, first_s, 0.62, color=colour(ROLES["prefill"]), label="queue and prefill, until the first token")
    decoding = [last - first for first, last in zip(first_s, last_s, strict=True)]
    axes.barh(places, decoding, 0.62, left=first_s, color=colour("sky"), label="decoding")
    began, lasted = [began for began, _ in stops], [lasted for _, lasted in stops]
    axes.barh(places, lasted, 0.62, left=began, color=colour("vermillion"), label="its longest gap between tokens")
    for place, (record, last) in enumerate(zip(run.slowest, last_s, strict=True)):
        axes.annotate(_tokens(record), (last, place), (5, 0), textcoords="offset points", va="center", fontsize=8.5)
    axes.set_yticks(places, [_served_by(record) for record in run.slowest], fontsize=8.5)
    axes.set_ylim(len(run.slowest) - 0.4, -0.6)
    axes.set_xlim(0.0, max(last_s) * 1.6 or 1.0)
    seconds(axes, "x", np.asarray([max(last_s)]))
    axes.set_xlabel("since the request was sent")
    axes.grid(visible=False, axis="y")
    drawn.legend(loc="outside upper left", ncols=3)
    return Plot(name, f"{run.name}: its slowest requests", _words(run.slowest[0]), drawn)


def _longest_gap(record: Record) -> tuple[float, float]:
    """When it began and how long it was; an empty one at the end where there are no two chunks."""
    gaps = [(earlier.at_s, later.at_s - earlier.at_s) for earlier, later in pairwise(record.chunks)]
    return max(gaps, key=lambda gap: gap[1], default=(e2el_s(record) or 0.0, 0.0))


def _served_by(record: Record) -> str:
    workers = " → ".join(dict.fromkeys(filter(None, (record.prefill, record.decode))))
    return f"{workers}  #{record.place}" if workers else f"#{record.place}"


def _tokens(record: Record) -> str:
    cached = "" if record.cached_tokens is None else f" ({record.cached_tokens:,} cached)"
    return f"sent at {record.sent_s:.1f} s, {input_tokens(record):,} tokens{cached} in, {output_tokens(record):,} out"


def _words(slowest: Record) -> str:
    first, last = reach(slowest.ttft_s or 0.0), reach(e2el_s(slowest) or 0.0)
    return f"The slowest took {last}, of which {first} until its first token."
