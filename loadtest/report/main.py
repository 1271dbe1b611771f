"""``moonpool loadtest report``: runs as one HTML page, and as PNGs. Exit status 1 where there is no run to read."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from loadtest.arguments import Parser, number
from loadtest.report.page import page, plots
from loadtest.report.plot import Plot, drawing, png
from loadtest.report.run import SLOWEST, Run, RunError, comparison_of, find, group_of, load, names, sweep_of


def main(argv: Sequence[str]) -> int:
    parser = _parser()
    asked = parser.parse_args(list(argv))
    if asked.out.exists() and not asked.overwrite:
        parser.error(f"{asked.out} exists; --overwrite replaces it")
    try:
        runs = _read(asked)
        alone = asked.runs[0] if len(asked.runs) == 1 else None
        sweep = sweep_of(alone) if alone else {}
        comparison = comparison_of(alone) if alone else {}
    except RunError as error:
        print(f"moonpool loadtest report: {error}", file=sys.stderr)
        return 1
    with drawing():
        together, each = plots(runs, sweep=sweep)
        _written(asked.out, page(asked.title, runs, together, each, comparison=comparison).encode())
        print(asked.out)
        if asked.png is not None:
            _pngs(asked.png, [*together, *(plot for drawn in each for plot in drawn)], overwrite=asked.overwrite)
    return 0


def _read(asked: Namespace) -> list[Run]:
    directories = list(dict.fromkeys(found for given in asked.runs for found in find(given)))
    labels = names(directories)
    return [
        load(each, name=label, group=group_of(each), slowest=asked.slowest)
        for each, label in zip(directories, labels, strict=True)
    ]


def _written(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _pngs(directory: Path, drawn: Sequence[Plot], *, overwrite: bool) -> None:
    for plot in drawn:
        path = directory / f"{plot.name}.png"
        if path.exists() and not overwrite:
            raise SystemExit(f"moonpool loadtest report: {path} exists; --overwrite replaces it")
        _written(path, png(plot))


def _parser() -> Parser:
    parser = Parser(
        prog="moonpool loadtest report",
        description="Draw runs of a load test: latencies, time, refusals, load, goodput against rate, the slowest "
        "requests, predictions. One HTML file that needs no network; several runs lie over each other.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN_DIR",
        help="a run's directory, or one of several runs, as sweep and compare leave them",
    )
    add("--out", type=Path, default=Path("report.html"), metavar="FILE", help="the page [report.html]")
    add("--png", type=Path, metavar="DIR", help="write every plot there as PNG too")
    add("--title", default="Load test", metavar="TEXT", help="the page's heading [Load test]")
    add("--slowest", type=number, default=SLOWEST, metavar="N", help=f"requests in each waterfall [{SLOWEST}]")
    add("--overwrite", action="store_true", help="replace files that exist")
    return parser
