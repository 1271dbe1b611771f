"""``moonpool bench conductor``: how long decisions take, among so many workers with so many blocks."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from scheduler.bench import measure
from services.bench.report import show
from services.runtime.flags import Parser
from services.runtime.garbage import collect_seldom


def main(argv: Sequence[str]) -> int:
    asked = _parser().parse_args(list(argv))
    rows = []
    collect_seldom()  # as the process does
    for row in measure(
        workers=tuple(asked.workers),
        blocks=asked.blocks,
        asks=asked.asks,
        seed=asked.seed,
        clock=time.perf_counter,
        rss_bytes=_rss_bytes,
    ):
        print(f"{row.name}: {row.value:.3g} {row.unit}", file=sys.stderr)
        rows.append(asdict(row))
    settings = {"workers": asked.workers, "blocks": asked.blocks, "asks": asked.asks, "seed": asked.seed}
    show("Conductor", rows, settings, as_json=asked.json)
    return 0


def _rss_bytes() -> int:
    words = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(words[1]) * 4096


def _parser() -> Parser:
    parser = Parser(
        prog="moonpool bench conductor",
        description="Measure placements of asks of 256 names, and how fast reports are taken in.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--workers", type=_counts, default=[16, 128, 1000], help="numbers of workers, a run for each [16,128,1000]"
    )
    parser.add_argument("--blocks", type=_count, default=1_000_000, help="names that stores hold in all [1000000]")
    parser.add_argument("--asks", type=_count, default=2000, help="placements measured in each run [2000]")
    parser.add_argument("--seed", type=int, default=1, help="of the cluster and the prompts [1]")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    return parser


def _counts(text: str) -> list[int]:
    return [_count(word) for word in text.split(",")]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 2")
    return int(text)
