"""Axes of seconds and of time, alike in every plot."""

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 30.0
"""From here on a scale of decades shows both; the outermost hundredths don't count."""
ALONE = 5.0
"""So many times the 99th percentile, the largest would squeeze all the others on an even scale."""

FEW_DECADES = 200.0
"""Below this there is room for a tick at 3 between those at 1 and 10."""


def figure(width: float, height: float) -> "Figure":
    """In inches. Without pyplot, so that nothing is kept and no window is asked for."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def seconds(axes: "Axes", along: Literal["x", "y"], values: npt.NDArray[np.float64], *, wide: float = WIDE) -> None:
    """Ticks as people say them, 20 ms or 1.5 s; by decades where the largest are ``wide`` times the smallest."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    known = values[~np.isnan(values) & (values > 0.0)]
    low, high = np.percentile(known, (1, 99)) if known.size else (1.0, 1.0)
    axis = axes.xaxis if along == "x" else axes.yaxis
    if high > wide * low or (known.size and known.max() > ALONE * high):
        axes.set(**{f"{along}scale": "log"})
        axis.set_major_locator(LogLocator(subs=(1.0, 3.0) if known.max() < FEW_DECADES * known.min() else (1.0,)))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, place: reach(value)))


def reach(value: float) -> str:
    """A duration in the unit that people use for it."""
    if value == 0.0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value * 1e6:.3g} µs"
    if abs(value) < 1.0:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s" if abs(value) < 100.0 else f"{value:,.0f} s"
