"""Charts as SVG, the same bytes for the same chart: no date in them, and ids salted by nothing but the chart.

Colours are Okabe and Ito's, told apart by colour-blind readers; markers and dashes tell lines apart without them.
matplotlib is loaded by whoever draws, not by whoever imports this file.
"""

from collections.abc import Iterator
from io import BytesIO
from itertools import cycle
from math import floor, log10
from typing import TYPE_CHECKING, Any

from loadtest.reproduce.table import Chart, Panel, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
GREYS = ("#444444", "#999999")
"""The papers' lines."""

LETTERS_AN_INCH = 13
"""Of a legend."""

STYLE: dict[Any, Any] = {  # Any: matplotlib's names of settings are a type of their own
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "svg.fonttype": "none",  # letters stay letters: a tenth of the bytes
}


def svg(chart: Chart) -> bytes:
    return _saved(chart, "svg", {"Date": None, "Creator": None})


def png(chart: Chart) -> bytes:
    """For eyes that have no browser."""
    return _saved(chart, "png", {"Software": None})


def _saved(chart: Chart, kind: str, metadata: dict[str, str | None]) -> bytes:
    from matplotlib import rc_context

    with rc_context({**STYLE, "svg.hashsalt": chart.name}):
        found = BytesIO()
        _figure(chart).savefig(found, format=kind, metadata=metadata, dpi=110)
    return found.getvalue()


def _figure(chart: Chart) -> "Figure":
    from matplotlib.figure import Figure

    panels = chart.panels
    rows, columns = (len(panels), 1) if chart.stacked else (1, len(panels))
    size = (8.0, 0.9 + 1.7 * rows) if chart.stacked else (min(11.0, 2.6 + 3.4 * columns), 3.8)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(chart.title, fontsize=10.5)
    alike = len({panel.y for panel in panels}) == 1
    all_axes = figure.subplots(rows, columns, squeeze=False, sharex=chart.stacked, sharey=alike).flat
    top = max((_highest(panel) for panel in panels), default=1.0) if alike else None
    for axes, panel in zip(all_axes, panels, strict=True):
        (_bars if panel.bars else _lines)(axes, panel)
        _frame(axes, panel, top or _highest(panel))
    last = list(figure.axes)[-1]
    if chart.stacked:
        for axes in figure.axes[:-1]:
            axes.set_xlabel("")
    handles, labels = last.get_legend_handles_labels()
    if len(labels) > 1:
        room = int(LETTERS_AN_INCH * size[0] / (6 + max(map(len, labels))))
        figure.legend(handles, labels, loc="outside lower center", ncols=max(1, min(len(labels), room)))
    return figure


def _lines(axes: "Axes", panel: Panel) -> None:
    for series, colour, marker in _looks(panel):
        points = [(x, y) for x, y in zip(series.x, series.y, strict=True) if y is not None]
        if not points:
            continue
        xs, ys = zip(*points, strict=True)
        dashes, mark = ("--", "x") if series.paper else ("-", marker)
        width, mark = (1.6, mark) if panel.points else (1.1, "")
        axes.plot(xs, ys, label=series.name, color=colour, marker=mark, linestyle=dashes, linewidth=width)


def _bars(axes: "Axes", panel: Panel) -> None:
    """Groups of bars side by side, each with its value above it."""
    width = 0.8 / len(panel.series)
    for place, (series, colour, _) in enumerate(_looks(panel)):
        left = [group - 0.4 + width * (place + 0.5) for group in range(len(panel.bars))]
        heights = [0.0 if y is None else y for y in series.y]
        drawn = axes.bar(left, heights, 0.92 * width, color=colour, label=series.name)
        axes.bar_label(drawn, labels=["" if y is None else f"{y:.3g}" for y in series.y], fontsize=7.5, padding=1.5)
    axes.set_xticks(range(len(panel.bars)), panel.bars)
    axes.grid(visible=False, axis="x")


def _looks(panel: Panel) -> Iterator[tuple[Series, str, str]]:
    """Each series with its colour and marker; the papers' take none of ours."""
    looks, greys = zip(COLOURS, MARKERS, strict=True), cycle(GREYS)
    for series in panel.series:
        yield (series, next(greys), "x") if series.paper else (series, *next(looks))


def _highest(panel: Panel) -> float:
    return max((y for series in panel.series for y in series.y if y), default=1.0)


def _frame(axes: "Axes", panel: Panel, top: float) -> None:
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    if panel.log_x:
        axes.set_xscale("log")
        _plain(axes.xaxis)
    if panel.log_y:
        axes.set_yscale("log")
        if panel.bars:
            least = min((y for series in panel.series for y in series.y if y), default=1.0)
            axes.set_ylim(bottom=10.0 ** floor(log10(least) - 0.3))
        _plain(axes.yaxis)
    else:
        axes.set_ylim(0.0, 1.08 * top)


def _plain(axis: "Axis") -> None:
    """1, 2, 5, 10 and 1,000 rather than powers; only as many as there is room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 2e3 * low else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
