"""Tables as Markdown: one for a terminal, all of them as a page with its charts and what it was made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.reproduce.drawing import svg
from loadtest.reproduce.table import Cell, Table


@dataclass(frozen=True, slots=True)
class Origin:
    """What a page was made from. trace: the file's name, or which built-in one; span_s: how long it takes."""

    trace: str
    requests: int
    span_s: float
    seed: int
    profile: str
    commit: str | None
    command: str


def markdown(table: Table, pictures: str = "") -> str:
    """pictures: the folder of its charts, seen from the page; empty: no charts."""
    lines = [f"## {table.title}", "", _line(table.columns), _line(["---"] * len(table.columns))]
    lines += [*map(_line, table.rows), ""]
    if pictures:
        lines += [line for chart in table.charts for line in (f"![{chart.title}]({pictures}/{chart.name}.svg)", "")]
    return "\n".join([*lines, table.note, ""])


def page(tables: Sequence[Table], origin: Origin, pictures: str) -> str:
    return "\n".join([_head(origin), *(markdown(table, pictures) for table in tables)])


def write(path: Path, tables: Sequence[Table], origin: Origin) -> None:
    """The page, and its charts in a folder of its name beside it. Raises OSError."""
    pictures = path.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    for chart in (chart for table in tables for chart in table.charts):
        (pictures / f"{chart.name}.svg").write_bytes(svg(chart))
    path.write_text(page(tables, origin, pictures.name), encoding="utf-8")


def _head(origin: Origin) -> str:
    return f"""# The papers' experiments beside ours

Mooncake's papers (FAST'25, and arXiv 2407.00079 before it) measured a cluster that nobody else has. Here the same
experiments run on a simulated one: our conductor, batchers, stores and eviction as they serve, on modelled engines and
links; [simulator.md](simulator.md) says what is real and what is modelled. The papers' figures stand beside ours. They
are of other hardware and often of other traces, so shapes and orders compare, seconds hardly.

| | |
|---|---|
| command | `{origin.command}`, which wrote this page whole |
| trace | {origin.trace}: {origin.requests:,} requests in {origin.span_s:,.0f} s |
| machine | `{origin.profile}`, blocks of 512 tokens |
| seed | {origin.seed} |
| commit | {origin.commit or "unknown"} |
"""


def _line(cells: Sequence[Cell]) -> str:
    return "| " + " | ".join("-" if cell is None else str(cell) for cell in cells) + " |"
