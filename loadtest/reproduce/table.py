"""An experiment's result as values: a table, the charts beside it, and what differs from the paper's setting."""

from dataclasses import dataclass

Cell = str | float | int | None


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or one colour of bars. y None: nothing there. paper: a figure of the papers, so drawn apart."""

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    paper: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. x, y: what they show, with the unit. bars: what stands below each group of bars; else lines.

    A y axis begins at 0 unless it is logarithmic. points: marked on their lines.
    """

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    bars: tuple[str, ...] = ()
    log_x: bool = False
    log_y: bool = False
    points: bool = True


@dataclass(frozen=True, slots=True)
class Chart:
    """name: of its file. stacked: panels below one another with the same x, else beside one another."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """note: what differs from the paper's setting and why, or what does not appear: in sentences."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str
    charts: tuple[Chart, ...] = ()
