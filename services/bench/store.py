"""``moonpool bench store``: what the store costs, each row beside what this machine can do at all."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from kvstore.arena import ArenaError
from kvstore.ssd import SsdError
from services.bench.report import show
from services.bench.rows import Row
from services.bench.store_index import BLOCKS, index_row
from services.bench.store_restart import restart_rows
from services.bench.store_session import StoreProcessFailed
from services.bench.store_session_rows import BATCHES, session_rows
from services.bench.store_ssd_rows import ssd_rows
from services.runtime.flags import Parser
from services.runtime.paths import default_data_dir
from services.runtime.size import format_size, parse_size


def main(argv: Sequence[str]) -> int:
    asked = _parser().parse_args(list(argv))
    asked.data_dir.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-store-", dir=asked.data_dir) as directory:
            rows = asyncio.run(_measure(Path(directory), asked))
    except (ArenaError, SsdError, StoreProcessFailed) as error:
        print(f"moonpool bench store: {error}", file=sys.stderr)
        return 1
    settings = {"rounds": asked.rounds, "ssd": format_size(asked.ssd), "data_dir": str(asked.data_dir)}
    settings |= {"quick": asked.quick}
    show("Store", [asdict(row) for row in rows], settings, as_json=asked.json)
    return 0


async def _measure(directory: Path, asked: argparse.Namespace) -> list[Row]:
    print("measuring a store process over its socket", file=sys.stderr)
    batches, rounds = (2, 1) if asked.quick else (BATCHES, asked.rounds)
    rows = await session_rows(directory, asked.arena_dir, rounds=rounds, batches=batches)
    print(f"measuring the SSD tier in {directory.parent}", file=sys.stderr)
    rows += await ssd_rows(directory, asked.arena_dir, size_bytes=64 << 20 if asked.quick else asked.ssd)
    rows.append(await asyncio.to_thread(index_row, 10_000 if asked.quick else BLOCKS))
    if asked.restart_blocks:
        print(f"starting a store on {asked.restart_blocks} blocks", file=sys.stderr)
        rows += await asyncio.to_thread(restart_rows, directory, asked.arena_dir, asked.restart_blocks)
    return rows


def _parser() -> Parser:
    parser = Parser(
        prog="moonpool bench store",
        description="Measure a store on this machine, beside what its memory and its disk can do at all.",
        allow_abbrev=False,
    )
    parser.add_argument("--data-dir", type=Path, default=default_data_dir(), help="a directory on the SSD to measure")
    parser.add_argument("--arena-dir", type=Path, default=Path("/dev/shm"), help="where the arena is made [/dev/shm]")
    parser.add_argument(
        "--ssd",
        type=_size,
        default=2 << 30,
        metavar="SIZE",
        help="of the file that is filled, and of another beside it [2GiB]",
    )
    parser.add_argument(
        "--restart-blocks",
        type=_count,
        default=0,
        metavar="N",
        help="also start a store on an SSD file of so many small blocks, 8 KiB each [none]",
    )
    parser.add_argument("--rounds", type=_count, default=9, help="times each row is measured; medians are shown [9]")
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it runs")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    return parser


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)
