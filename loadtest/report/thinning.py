"""Fewer points that look the same: what a plot of 100,000 requests needs to stay a few kilobytes. Pure.

Nothing is drawn by chance: the same points give the same plot.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


def cumulative(values: Floats, of: int, *, points: int = 200) -> tuple[Floats, Floats]:
    """The steps of the distribution of ``values`` among ``of`` things: (value, share at most that).

    Where there are more than twice ``points`` values, evenly spaced ranks, and the last hundredth at its own even
    ranks, since tails are what is looked at.
    """
    ordered = np.sort(values[~np.isnan(values)])
    if not ordered.size or not of:
        return np.empty(0), np.empty(0)
    last = ordered.size - 1
    ranks = np.arange(ordered.size)
    if ordered.size > 2 * points:
        body, tail = np.linspace(0, last, points), np.linspace(0.99 * last, last, points)
        ranks = np.unique(np.concatenate([body, tail]).astype(np.intp))
    return ordered[ranks], (ranks + 1) / of


def kept(values: Floats, *, points: int = 1_500) -> Places:
    """Which of these dots, in time order, to draw: the highest in each of many stretches, and others evenly."""
    places = np.flatnonzero(~np.isnan(values))
    if places.size <= points:
        return places
    peaks = [stretch[np.argmax(values[stretch])] for stretch in np.array_split(places, points // 3)]
    return np.union1d(places[:: -(-places.size // (points - len(peaks)))], np.asarray(peaks))


def edges(span: float, *, most: int = 120) -> Floats:
    """Of time bins: at most so many, each a round number of seconds long, from 0 to at least ``span``."""
    width = 1e-3
    steps = (2.0, 2.5, 2.0)  # 1, 2, 5, 10 ..
    place = 0
    while span / width > most:
        width *= steps[place % 3]
        place += 1
    return np.arange(0, max(1, int(np.ceil(span / width))) + 1, dtype=np.float64) * width


def median_by_bin(times: Floats, values: Floats, at: Floats) -> Floats:
    """Of the values whose times fall between two edges; nan where there are none."""
    known = ~np.isnan(values)
    bins = np.clip(np.searchsorted(at, times[known], side="right") - 1, 0, len(at) - 2)
    order = np.argsort(bins, kind="stable")
    starts = np.searchsorted(bins[order], np.arange(len(at)))
    groups = np.split(values[known][order], starts[1:-1])
    return np.asarray([np.median(group) if group.size else np.nan for group in groups])


def in_flight(began: Floats, ended: Floats, at: Floats) -> Floats:
    """How many had begun and not ended at each of these moments; those that never began don't count."""
    known = ~(np.isnan(began) | np.isnan(ended))
    starts, ends = np.sort(began[known]), np.sort(ended[known])
    return (np.searchsorted(starts, at, side="right") - np.searchsorted(ends, at, side="right")).astype(np.float64)
