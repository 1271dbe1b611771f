"""``moonpool loadtest run``: offer a workload to a target, keep what became of each request, and sum it up."""

import asyncio
import gc
import json
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest import flags
from loadtest.arguments import Parser
from loadtest.client.server import Server, ServerError
from loadtest.doubts import doubts
from loadtest.live import Listener, Live, live
from loadtest.metrics import Facts, summary
from loadtest.offered import Offered, block_warning, offered
from loadtest.record import Record
from loadtest.run_directory import RunDirectory, RunDirectoryError, RunResult
from loadtest.settings import Endpoint, RunSettings
from loadtest.table import table
from loadtest.trace_file import read
from loadtest.traces import Row, TraceError

INTERRUPTED = 130
NAME = "moonpool loadtest run"
COLLECT_EVERY = 100_000
"""Objects between two collections of garbage: a run makes next to none, and looking for it takes milliseconds."""


class RunError(Exception):
    """There is nothing to measure; the sentence says why."""


def main(argv: Sequence[str]) -> int:
    """130 where it was interrupted: what was measured until then is kept, and summed up."""
    parser = _parser()
    asked = parser.parse_args(list(argv))
    settings = flags.settings(parser, asked)
    try:
        with RunDirectory(asked.out, overwrite=asked.overwrite) if asked.out else nullcontext() as directory:
            found = run(settings, directory)
    except (RunError, RunDirectoryError) as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 1
    for sentence in found.summary["harness"]["warnings"]:
        print(f"{NAME}: {sentence}", file=sys.stderr)
    if asked.json:
        print(json.dumps(found.summary))
    else:
        Console().print(table(found.summary))
    return INTERRUPTED if found.summary["interrupted"] else 0


def run(settings: RunSettings, directory: RunDirectory | None = None) -> RunResult:
    """One run, from beginning to end. Ctrl-C ends it early, with what there is. Raises RunError, RunDirectoryError."""
    whole = requests(settings)
    target = settings.target
    assert isinstance(target, Endpoint)
    when = datetime.now(UTC)
    _settle()
    with _progress(len(whole.requests)) as listener:
        keeping = _keeping(listener, directory)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                seen, interrupted = runner.run(_until_stopped(settings, target, whole, keeping))
        except ServerError as error:
            raise RunError(str(error)) from error
    if not seen.records:
        raise RunError("nothing was sent before it was stopped")
    found = RunResult(
        seen.records, summary(seen.records, _facts(settings, target, whole, seen, when, interrupted)), seen.samples
    )
    if directory is not None:
        directory.summary(found.summary)
    return found


def requests(settings: RunSettings) -> Offered:
    """What will be offered. Raises RunError."""
    offer = settings.offer
    rows: Sequence[Row] = ()
    try:
        if offer.workload == "trace":
            rows, hint = read(offer.trace, seed=offer.seed)
            if hint:
                print(f"{NAME}: {hint}", file=sys.stderr)
        whole = offered(offer, rows)
    except (TraceError, ValueError) as error:
        raise RunError(str(error)) from error
    if not whole.requests:
        raise RunError("the workload has no request: a duration too short, or a longest below all of them")
    return whole


def _settle() -> None:
    """What there is now stays: the collector needn't look at it again. As many connections as the system gives."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 50, 100)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _until_stopped(
    settings: RunSettings, endpoint: Endpoint, whole: Offered, listener: Listener
) -> tuple[Live, bool]:
    """The first Ctrl-C ends it in order; whether there was one. A second is Python's own."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def interrupted() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        seen = await live(endpoint, settings.offer, whole.requests, listener=listener, stop=stop)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    return seen, stop.is_set()


def _facts(
    settings: RunSettings, endpoint: Endpoint, whole: Offered, seen: Live, when: datetime, interrupted: bool
) -> Facts:
    offer = settings.offer
    return Facts(
        when=when,
        backend="openai" if endpoint.endpoint == "completions" else "openai-chat",
        endpoint_type="openai" if endpoint.endpoint == "completions" else "openai-chat",
        label=settings.label,
        model_id=seen.server.model,
        tokenizer_id=str(endpoint.tokenizer or seen.server.model),
        request_rate=offer.rate_per_s,
        burstiness=offer.burstiness,
        max_concurrency=offer.max_concurrency,
        slos=settings.slos,
        duration_s=seen.duration_s,
        interrupted=interrupted,
        settings=settings.described(),
        harness={
            "cpu_share": seen.cpu_share,
            "left_out": whole.left_out,
            "warnings": _warnings(settings, endpoint, seen),
        },
    )


def _warnings(settings: RunSettings, endpoint: Endpoint, seen: Live) -> list[str]:
    offer = settings.offer
    found = doubts(
        seen.records,
        cpu_share=seen.cpu_share,
        paced=offer.rate_per_s < float("inf") or offer.ramp is not None or offer.workload == "trace",
        exact_output=endpoint.ignore_eos,
        longest=seen.server.max_model_len,
    )
    block = block_warning(offer, seen.server.block_tokens)
    return [block, *found] if block else found


def _keeping(listener: Listener, directory: RunDirectory | None) -> Listener:
    """The same, and all of it written as it happens."""
    if directory is None:
        return listener

    def record(each: Record) -> None:
        directory.record(each)
        listener.record(each)

    return Listener(listener.began, record, directory.pool)


@contextmanager
def _progress(total: int) -> Iterator[Listener]:
    """On a terminal only, and on stderr: stdout is for the answer."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Listener()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as bar:
        task = bar.add_task("looking at the server", total=total)

        def began(server: Server) -> None:
            bar.reset(task, description=server.model)

        def record(each: Record) -> None:
            bar.update(task, advance=1)

        yield Listener(began, record)


def _parser() -> Parser:
    parser = Parser(
        prog=NAME, description="Offer a workload to a server and measure what becomes of it.", allow_abbrev=False
    )
    flags.add_all(parser)
    group = parser.add_argument_group("what is left of it")
    group.add_argument("--out", type=Path, metavar="DIR", help="write records, pools and summary there [nowhere]")
    group.add_argument("--overwrite", action="store_true", help="even where a run is already")
    group.add_argument("--json", action="store_true", help="print the summary as JSON instead of a table")
    return parser
