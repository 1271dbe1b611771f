"""``moonpool reproduce``: the papers' experiments, one table each. Exit status 1 for a bad trace or folder."""

import json
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from loadtest.arguments import Parser, add_trace, number, timed, trace_file
from loadtest.reproduce.bandwidth import bandwidth
from loadtest.reproduce.bench import Bench, Maker, Run, Table
from loadtest.reproduce.capacity import capacity
from loadtest.reproduce.crew import crew
from loadtest.reproduce.hit_rates import hit_rates
from loadtest.reproduce.kept import keeping
from loadtest.reproduce.layerwise import layerwise
from loadtest.reproduce.local_vs_global import local_vs_global
from loadtest.reproduce.long_prompts import long_prompts
from loadtest.reproduce.page import Origin, markdown, write
from loadtest.reproduce.policies import policies
from loadtest.reproduce.ratio import ratio
from loadtest.reproduce.refusals import refusals
from loadtest.reproduce.replicas import replicas
from loadtest.reproduce.run import Made
from loadtest.revision import revision
from loadtest.trace_file import find, read, say
from loadtest.traces import BLOCK_TOKENS, Row, Trace, TraceError

EXPERIMENTS: dict[str, Callable[[Bench], Table]] = {
    "hit-rates": hit_rates,
    "policies": policies,
    "capacity": capacity,
    "refusals": refusals,
    "ratio": ratio,
    "bandwidth": bandwidth,
    "local-vs-global": local_vs_global,
    "replicas": replicas,
    "layerwise": layerwise,
    "long-prompts": long_prompts,
}


def main(argv: Sequence[str]) -> int:
    asked = _parser().parse_args(list(argv))
    try:
        trace = _of_published_blocks(timed(read(trace_file(asked), seed=asked.seed), asked.trace))
    except TraceError as error:
        return _wrong(str(error))
    say("moonpool reproduce", trace)
    try:
        tables = _tables(asked, trace.rows[: asked.requests])
        if asked.write is not None:
            write(asked.write, tables, _origin(asked, trace.rows[: asked.requests]))
    except BrokenPipeError:
        raise  # nobody reads on, as the caller knows
    except OSError as error:
        return _wrong(f"can't use {error.filename}: {error.strerror}")
    if asked.json:
        print(json.dumps([asdict(table) for table in tables]))
    return 0


def _of_published_blocks(trace: Trace) -> Trace:
    """The experiments count in the papers' blocks. Raises TraceError for others."""
    if trace.block_tokens != BLOCK_TOKENS:
        raise TraceError(
            f"the experiments are about blocks of {BLOCK_TOKENS} tokens, and this trace's have {trace.block_tokens}"
        )
    return trace


def _tables(asked: Namespace, rows: list[Row]) -> list[Table]:
    """Printed as they come, where that is wanted."""
    tables = []
    with crew(asked.jobs) as maker, _telling(maker) as told:
        bench = Bench(rows, asked.seed, maker=keeping(asked.keep, told) if asked.keep else told)
        for table in _run(bench, asked.only or list(EXPERIMENTS), asked.jobs):
            tables.append(table)
            if not asked.json:
                print(markdown(table), flush=True)
    return tables


def _run(bench: Bench, names: Sequence[str], jobs: int) -> Iterator[Table]:
    if jobs == 1:
        yield from (EXPERIMENTS[name](bench) for name in names)
        return
    experiments = ThreadPoolExecutor(len(names))
    try:
        yield from experiments.map(lambda name: EXPERIMENTS[name](bench), names)
    finally:
        experiments.shutdown(cancel_futures=True)


@contextmanager
def _telling(maker: Maker) -> Iterator[Maker]:
    """On stderr: what is simulated; a spinner each on a terminal, a line each elsewhere."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:

        def told(rows: list[Row], seed: int, run: Run) -> Made:
            words = f"simulating {_words(run)}"
            if not console.is_terminal:
                print(words, file=sys.stderr, flush=True)
            task = bar.add_task(words, total=1)
            made = maker(rows, seed, run)
            bar.remove_task(task)
            return made

        yield told


def _words(run: Run) -> str:
    spec = run.spec
    where = f"{spec.mixed} coupled" if spec.coupled else f"{spec.prefill}P+{spec.decode}D"
    gbps = spec.machine.link_bytes_per_s * 8e-9
    return f"{where}, {run.policy}, speed {run.speed:g}, admission {run.admission}, {gbps:.0f} Gbps"


def _origin(asked: Namespace, rows: list[Row]) -> Origin:
    """Without the folders of this machine."""
    found = find(asked.trace)
    words = ["moonpool", "reproduce", *(["--trace", found.name] if found else [])]
    for name in asked.only or ():
        words += ["--only", name]
    if asked.requests is not None:
        words += ["--requests", str(asked.requests)]
    if asked.seed:
        words += ["--seed", str(asked.seed)]
    words += ["--write", asked.write.name if asked.write.is_absolute() else str(asked.write)]
    span_s = (rows[-1].timestamp - rows[0].timestamp) / 1000 if rows else 0.0
    trace = found.name if found else "the built-in trace"
    return Origin(trace, len(rows), span_s, asked.seed, Bench(rows, asked.seed).profile, revision(), shlex.join(words))


def _wrong(sentence: str) -> int:
    print(f"moonpool reproduce: {sentence}", file=sys.stderr)
    return 1


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
    add(
        "--write",
        type=Path,
        metavar="FILE",
        help="write a Markdown page with all tables, and its plots into a folder of its name beside it [only print]",
    )
    add(
        "--keep",
        type=Path,
        metavar="DIR",
        help="keep finished simulations there, and take from there what the same code made of the same trace [nowhere]",
    )
    cores = len(os.sched_getaffinity(0))
    add("--jobs", type=_jobs, default=cores, metavar="N", help="simulations at a time [as many as there are cores]")
    add("--json", action="store_true", help="print JSON instead of Markdown")
    return parser


def _jobs(text: str) -> int:
    return max(1, number(text))
