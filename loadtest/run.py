"""``moonpool loadtest run``: offer a workload to a target, keep what became of each request, and sum it up."""

import asyncio
import json
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import assert_never

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest import flags
from loadtest.arguments import Parser
from loadtest.client.proxies import unused_proxy
from loadtest.client.server import Server, ServerError
from loadtest.doubts import doubts
from loadtest.garbage import seldom_collected, set_apart
from loadtest.live import Listener, Live, live
from loadtest.metrics import Facts, summary
from loadtest.offered import Offered, block_warning, offered
from loadtest.record import Record
from loadtest.run_directory import RunDirectory, RunDirectoryError, RunResult
from loadtest.settings import Endpoint, RunSettings, Simulated
from loadtest.simulated import Seen, SimulatedError, simulated
from loadtest.table import table
from loadtest.trace_file import read, say
from loadtest.traces import Trace, TraceError

INTERRUPTED = 130
NAME = "moonpool loadtest run"


class RunError(Exception):
    """There is nothing to measure; the sentence says why."""


def main(argv: Sequence[str]) -> int:
    """130 where it was interrupted: what was measured until then is kept, and summed up."""
    parser = _parser()
    asked = flags.parse(parser, argv)
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
    if found.unkept:
        print(f"{NAME}: {found.unkept}", file=sys.stderr)
        return 1
    return INTERRUPTED if found.summary["interrupted"] else 0


def run(settings: RunSettings, directory: RunDirectory | None = None) -> RunResult:
    """One run, from beginning to end. Ctrl-C ends it early, with what there is. Raises RunError, RunDirectoryError."""
    whole = requests(settings)
    when = datetime.now(UTC)
    with _progress(len(whole.requests)) as listener:
        keeping = _keeping(listener, directory)
        seen: Live | Seen
        match settings.target:
            case Endpoint() as endpoint:
                seen, facts = _asked(settings, endpoint, whole, keeping)
            case Simulated() as target:
                seen, facts = _imagined(settings, target, whole, keeping)
            case _:
                assert_never(settings.target)
    if not seen.records:
        raise RunError("nothing was sent before it was stopped")
    summed = summary(seen.records, replace(facts, when=when))
    if directory is not None:
        directory.summary(summed)
    return RunResult(seen.records, summed, seen.samples, unkept=directory.unkept if directory is not None else "")


def _asked(settings: RunSettings, endpoint: Endpoint, whole: Offered, listener: Listener) -> tuple[Live, Facts]:
    try:
        with _settled(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            seen, interrupted = runner.run(_until_stopped(settings, endpoint, whole, listener))
    except ServerError as error:
        note = unused_proxy(endpoint.url)
        raise RunError(f"{error}; {note}" if note else str(error)) from error
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None  # before anything was measured
    kind = "openai" if endpoint.endpoint == "completions" else "openai-chat"
    facts = replace(
        _facts(settings, whole, kind, _warnings(settings, endpoint, whole, seen), cpu_share=seen.cpu_share),
        model_id=seen.server.model,
        tokenizer_id=str(endpoint.tokenizer or seen.server.model),
        duration_s=seen.duration_s,
        interrupted=interrupted,
    )
    return seen, facts


def _imagined(settings: RunSettings, target: Simulated, whole: Offered, listener: Listener) -> tuple[Seen, Facts]:
    """A harness in virtual time is never late, so of itself it has nothing to say."""
    try:
        seen = simulated(target, settings.offer, whole.requests, listener)
    except SimulatedError as error:
        raise RunError(str(error)) from error
    block = block_warning(settings.offer, whole, seen.block_tokens)
    return seen, _facts(settings, whole, "simulator", [block] if block else [], cpu_share=0.0)


def requests(settings: RunSettings) -> Offered:
    """What will be offered. Raises RunError."""
    offer = settings.offer
    trace: Trace | None = None
    try:
        if offer.workload == "trace":
            trace = read(offer.trace, seed=offer.seed)
            say(NAME, trace)
        whole = offered(offer, trace)
    except (TraceError, ValueError) as error:
        raise RunError(str(error)) from error
    if not whole.requests:
        raise RunError("the workload has no request: a duration too short, or a longest below all of them")
    return whole


@contextmanager
def _settled() -> Iterator[None]:
    """What there is now stays: the collector needn't look at it again. As many connections as the system gives."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with set_apart(), seldom_collected():
        yield


async def _until_stopped(
    settings: RunSettings, endpoint: Endpoint, whole: Offered, listener: Listener
) -> tuple[Live, bool]:
    """Ctrl-C ends it in order, once there is something to keep; whether there was one."""
    stop, began, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def interrupted() -> None:
        if began.is_set():
            stop.set()
        else:
            task.cancel()

    def begins(server: Server) -> None:
        began.set()
        listener.began(server)

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        watched = Listener(begins, listener.record, listener.pool)
        seen = await live(endpoint, settings.offer, whole.requests, listener=watched, stop=stop)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    return seen, stop.is_set()


def _facts(settings: RunSettings, whole: Offered, kind: str, warnings: list[str], *, cpu_share: float) -> Facts:
    offer = settings.offer
    return Facts(
        when=datetime.now(UTC),
        backend=kind,
        endpoint_type=kind,
        label=settings.label,
        request_rate=offer.rate_per_s,
        burstiness=offer.burstiness,
        ramp=offer.ramp,
        paced=offer.paced,
        max_concurrency=offer.max_concurrency,
        slos=settings.slos,
        settings=settings.described(),
        harness={"cpu_share": cpu_share, "left_out": whole.left_out, "warnings": warnings},
    )


def _warnings(settings: RunSettings, endpoint: Endpoint, whole: Offered, seen: Live) -> list[str]:
    offer = settings.offer
    found = doubts(
        seen.records,
        cpu_share=seen.cpu_share,
        paced=offer.paced,
        exact_output=endpoint.ignore_eos,
        longest=seen.server.max_model_len,
    )
    first = (unused_proxy(endpoint.url), block_warning(offer, whole, seen.server.block_tokens))
    return [*filter(None, first), *found]


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
