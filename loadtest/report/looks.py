"""How plots look: colours that colour-blind people tell apart, dashes beside them, and a page that may be dark.

Figures are drawn for paper in the light colours. In a page every colour becomes a CSS variable of its name, which the
page sets for light and for dark.
"""

from typing import Any, NamedTuple


class Ink(NamedTuple):
    """A colour on a light page and on a dark one."""

    light: str
    dark: str


COLOURS = {
    "ink": Ink("#1b1f24", "#e3e6ea"),
    "faint": Ink("#6a7078", "#9aa1ab"),
    "rule": Ink("#d9dde2", "#363c45"),
    "paper": Ink("#fffffe", "#16191d"),
    "blue": Ink("#0072b2", "#5ab0f0"),
    "vermillion": Ink("#d55e00", "#ff8243"),
    "green": Ink("#009e73", "#2fcf9f"),
    "purple": Ink("#cc79a7", "#e59cc5"),
    "orange": Ink("#e69f00", "#f5b83d"),
    "sky": Ink("#56b4e9", "#9ad7ff"),
    # Steps from cool to warm: matplotlib's plasma, its dark end for light pages and its light end for dark ones.
    "step-1": Ink("#1b068d", "#a11b9b"),
    "step-2": Ink("#4e02a2", "#bc3587"),
    "step-3": Ink("#7b02a8", "#d24f71"),
    "step-4": Ink("#a21d9a", "#e56a5d"),
    "step-5": Ink("#c33d80", "#f3874a"),
    "step-6": Ink("#dc5d67", "#fca636"),
    "step-7": Ink("#f0804e", "#fdca26"),
    "step-8": Ink("#fca636", "#f3f027"),
}
"""Okabe and Ito's palette (without its yellow, which vanishes on white), lightened for dark pages; and a scale."""

SERIES = ("blue", "vermillion", "green", "purple", "orange", "sky")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
ROLES = {"prefill": "blue", "decode": "vermillion", "mixed": "green"}


def colour(name: str) -> str:
    """As matplotlib takes it."""
    return COLOURS[name].light


def series(place: int, of: int) -> dict[str, Any]:  # Any: matplotlib's keywords
    """A line among so many: its own colour and dashes, or, among many, its step on the scale from cool to warm."""
    if of <= len(SERIES):
        return {"color": colour(SERIES[place]), "linestyle": DASHES[place], "linewidth": 1.6}
    step = 1 + round(7 * place / (of - 1))
    return {"color": colour(f"step-{step}"), "linestyle": DASHES[place % 4], "linewidth": 1.2}


def settings() -> dict[Any, Any]:  # Any: matplotlib's rcParams
    """For matplotlib while it draws: the same input gives the same bytes."""
    ink, faint, rule, paper = (colour(name) for name in ("ink", "faint", "rule", "paper"))
    return {
        "svg.hashsalt": "moonpool",
        "svg.fonttype": "none",  # text stays text: it can be searched, read aloud, and is small
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib; wider than what pages use, so nothing overflows
        "font.size": 10.0,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": faint,
        "axes.facecolor": paper,
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": rule,
        "grid.linewidth": 0.7,
        "xtick.color": faint,
        "ytick.color": faint,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "figure.facecolor": paper,
        "legend.frameon": False,
        "legend.fontsize": 9.0,
        "lines.solid_capstyle": "round",
    }
