"""``moonpool reproduce``: the papers' experiments, one table each. Exit status 1 for a bad trace."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

from loadtest.arguments import Parser, add_trace, number
from loadtest.reproduce.bandwidth import bandwidth
from loadtest.reproduce.bench import Bench, Cell, Run, Table
from loadtest.reproduce.capacity import capacity
from loadtest.reproduce.hit_rates import hit_rates
from loadtest.reproduce.policies import policies
from loadtest.reproduce.ratio import ratio
from loadtest.reproduce.refusals import refusals
from loadtest.trace_file import read
from loadtest.traces import TraceError

EXPERIMENTS: dict[str, Callable[[Bench], Table]] = {
    "hit-rates": hit_rates,
    "policies": policies,
    "capacity": capacity,
    "bandwidth": bandwidth,
    "ratio": ratio,
    "refusals": refusals,
}


def main(argv: Sequence[str]) -> int:
    asked = _parser().parse_args(list(argv))
    try:
        rows, hint = read(asked.trace, seed=asked.seed)
    except TraceError as error:
        print(f"moonpool reproduce: {error}", file=sys.stderr)
        return 1
    if hint:
        print(f"moonpool reproduce: {hint}", file=sys.stderr)
    bench = Bench(rows[: asked.requests], asked.seed, began=_tell)
    names = asked.only or list(EXPERIMENTS)
    tables = []
    for name in names:
        tables.append(EXPERIMENTS[name](bench))
        if not asked.json:
            print(markdown(tables[-1]), flush=True)
    if asked.json:
        print(json.dumps([asdict(table) for table in tables]))
    return 0


def markdown(table: Table) -> str:
    lines = [f"## {table.title}", "", _line(table.columns), _line(["---"] * len(table.columns))]
    return "\n".join([*lines, *map(_line, table.rows), "", table.note, ""])


def _line(cells: Sequence[Cell]) -> str:
    return "| " + " | ".join("-" if cell is None else str(cell) for cell in cells) + " |"


def _tell(run: Run) -> None:
    spec = run.spec
    where = f"{spec.mixed} coupled" if spec.coupled else f"{spec.prefill}P+{spec.decode}D"
    print(
        f"simulating {where}, {run.policy}, admission {run.admission}, {spec.machine.link_bytes_per_s * 8e-9:.0f} Gbps",
        file=sys.stderr,
    )


def _parser() -> Parser:
    parser = Parser(
        prog="moonpool reproduce",
        description="Run the papers' experiments on a simulated cluster: each a table with the paper's figures beside "
        "ours. A simulation of the whole trace takes about a minute; experiments share those that are alike.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    names = ", ".join(EXPERIMENTS)
    add(
        "--only",
        action="append",
        choices=tuple(EXPERIMENTS),
        metavar="NAME",
        help=f"one of {names}; can be repeated [all]",
    )
    add_trace(parser)
    add("--seed", type=number, default=0, metavar="N", help="of all that is drawn: same seed, same result [0]")
    add("--json", action="store_true", help="print JSON instead of Markdown")
    return parser
