"""``moonpool bench transfer``: what blocks cost between two hosts, beside what this machine can do at all."""

import argparse
import asyncio
import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from kvstore.arena import ArenaError
from services.bench.report import show
from services.bench.rows import Row
from services.bench.store_session import StoreProcessFailed
from services.bench.transfer_bare import TlsFiles
from services.bench.transfer_layers import SPEEDS, hidden_rows
from services.bench.transfer_rows import layer_rows, transfer_rows
from services.runtime.flags import Parser

BATCH_BYTES = 192 << 20
QUICK_BYTES = 12 << 20


def main(argv: Sequence[str]) -> int:
    asked = _parser().parse_args(list(argv))
    try:
        with tempfile.TemporaryDirectory(prefix="bench-transfer-") as directory:
            rows = asyncio.run(_measure(Path(directory), asked))
    except (ArenaError, StoreProcessFailed) as error:
        print(f"moonpool bench transfer: {error}", file=sys.stderr)
        return 1
    settings = {"rounds": asked.rounds, "quick": asked.quick, "block_bytes": 30 * 48 * 1024}
    show("Transfer", [asdict(row) for row in rows], settings, as_json=asked.json)
    return 0


async def _measure(directory: Path, asked: argparse.Namespace) -> list[Row]:
    rounds, batch_bytes = (1, QUICK_BYTES) if asked.quick else (asked.rounds, BATCH_BYTES)
    print("measuring pushes and fetches between two store processes", file=sys.stderr)
    rows = await transfer_rows(directory, asked.arena_dir, rounds=rounds, batch_bytes=batch_bytes, tls=None)
    files = certificates(directory)
    if files is None:
        print("no rows for TLS: they need trustme, which is among the dev dependencies", file=sys.stderr)
    else:
        print("the same over TLS", file=sys.stderr)
        rows += await transfer_rows(directory, asked.arena_dir, rounds=rounds, batch_bytes=batch_bytes, tls=files)
    print("layer by layer", file=sys.stderr)
    rows += await layer_rows(directory, asked.arena_dir, rounds=rounds, batch_bytes=batch_bytes // 2)
    print("behind a prefill, of a worker process", file=sys.stderr)
    speeds = ["_fast"] if asked.quick else list(SPEEDS)
    return rows + await hidden_rows(directory, asked.arena_dir, rounds=rounds, speeds=speeds)


def certificates(directory: Path) -> TlsFiles | None:
    """Of an authority that lives as long as the benchmark; None without trustme."""
    if importlib.util.find_spec("trustme") is None:
        return None
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = TlsFiles(directory / "cert.pem", directory / "key.pem", directory / "ca.pem")
    authority.cert_pem.write_to_path(str(files.ca))
    files.cert.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(files.key))
    return files


def _parser() -> Parser:
    parser = Parser(
        prog="moonpool bench transfer",
        description="Measure what blocks cost between two stores on this machine, beside a bare copy over TCP.",
        allow_abbrev=False,
    )
    parser.add_argument("--arena-dir", type=Path, default=Path("/dev/shm"), help="where arenas are made [/dev/shm]")
    parser.add_argument("--rounds", type=_count, default=9, help="times each row is measured; medians are shown [9]")
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it runs")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)
