"""``moonpool bench engine``: find the model, let the engine measure itself, show the rows."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from engine.llama import sleep_at_barriers
from engine.port import EngineError
from services.bench.engine_fit import fitted
from services.bench.report import commit, machine, show
from services.models.embedded import EMBEDDED_MODEL
from services.models.errors import ModelError
from services.models.resolve import resolve_model
from services.runtime.flags import Parser
from services.runtime.paths import default_data_dir


def main(argv: Sequence[str]) -> int:
    asked = _parser().parse_args(list(argv))
    try:
        files = resolve_model(asked.model, asked.data_dir)
        sleep_at_barriers()
        from engine.bench import measure  # torch, which --help does not wait for

        runs = []
        for threads in asked.threads:
            print(f"measuring {files.served_name} with {threads} thread(s)", file=sys.stderr)
            runs.append(measure(files.directory, threads=threads, dtype=asked.dtype, rounds=asked.rounds))
    except (ModelError, EngineError) as error:
        print(f"moonpool bench engine: {error}", file=sys.stderr)
        return 1
    settings = {"model": files.served_name, "dtype": asked.dtype, "rounds": asked.rounds, "threads": asked.threads}
    show("Engine", [asdict(row) for run in runs for row in run.rows], settings, as_json=asked.json)
    if asked.fit is None:
        return 0
    words = f"moonpool bench engine --threads {asked.threads[0]} --dtype {asked.dtype} --rounds {asked.rounds}"
    facts = fitted(files.served_name, runs[0].facts, runs[0].rows, command=words, commit=commit(), machine=machine())
    try:
        asked.fit.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        print(f"moonpool bench engine: {asked.fit} can't be written ({error.strerror})", file=sys.stderr)
        return 1
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="moonpool bench engine",
        description="Measure the torch engine on this machine's CPU, beside what the machine can do at all.",
        allow_abbrev=False,
    )
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="a directory, a .gguf file, or a model's name")
    parser.add_argument("--data-dir", type=Path, default=default_data_dir(), help="where models are kept")
    parser.add_argument("--threads", type=_counts, default=[1], help="numbers of threads, e.g. 1,2; a run for each [1]")
    parser.add_argument("--dtype", default="auto", choices=("auto", "bfloat16", "float32"), help="[auto]")
    parser.add_argument("--rounds", type=_count, default=7, help="times each row is measured; medians are shown [7]")
    parser.add_argument(
        "--fit",
        type=Path,
        metavar="FILE",
        help="also write what `moonpool simulate --profile FILE` takes, of the first number of threads; ends in .json",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    return parser


def _counts(text: str) -> list[int]:
    return [_count(word) for word in text.split(",")]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)
