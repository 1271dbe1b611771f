"""``moonpool simulate``: a trace, a cluster, and what would become of every request. Exit status 1 for a bad trace."""

import json
import sys
import time
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from math import inf
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from kvstore.eviction import POLICIES as EVICTIONS
from loadtest import profiles
from loadtest.arguments import (
    BLOCK_TOKENS_HELP,
    Parser,
    above_0,
    add_profile,
    add_trace,
    cluster_block_tokens,
    number,
    positive,
    size,
    timed,
    times,
    trace_file,
)
from loadtest.request import Request
from loadtest.simulator.faults import faults
from loadtest.simulator.record import Record, summary
from loadtest.simulator.simulation import Simulation
from loadtest.simulator.spec import REPORT_S, Coupled, Spec
from loadtest.trace_file import read, say
from loadtest.traces import BLOCK_TOKENS, TraceError, requests
from loadtest.workload.tiled import tile_s, tiled
from scheduler.admission import Admission
from scheduler.conductor import Conductor
from scheduler.policies import POLICIES
from scheduler.vocabulary import Promise

Summary = dict[str, Any]  # JSON


def main(argv: Sequence[str]) -> int:
    parser = _parser()
    asked = parser.parse_args(list(argv))
    started_s = time.perf_counter()
    try:
        trace = timed(read(trace_file(asked), seed=asked.seed), asked.trace)
    except TraceError as error:
        print(f"moonpool simulate: {error}", file=sys.stderr)
        return 1
    say("moonpool simulate", trace)
    asked.block_tokens = asked.block_tokens or cluster_block_tokens(trace)
    once = requests(
        trace.rows[: asked.requests], speed=asked.speed, length=asked.length, block_tokens=trace.block_tokens
    )
    offered, lasts_s = len(once) * asked.repeat, tile_s(once) * asked.repeat
    workload: Iterable[Request] = once
    try:
        simulation = build(asked)
        if asked.repeat > 1:
            workload = tiled(once, asked.repeat)
    except ValueError as error:
        parser.error(str(error))
    wrong = faults(
        hosts=len(simulation.workers),
        span_s=lasts_s if asked.repeat > 1 else max((request.at_s for request in once), default=0.0),
        deaths=asked.deaths,
        slow=asked.slow_hosts,
        silences=asked.lost_reports,
        chance=Random(asked.seed),
    )
    with _progress(offered) as advance:
        records = simulation.run(workload, faults=wrong, over=advance)
    if asked.records is not None:
        asked.records.write_text("".join(json.dumps(line(record)) + "\n" for record in records), encoding="utf-8")
    wall_s = time.perf_counter() - started_s
    found = summary(records, ttft_slo_s=asked.ttft_slo, tbt_slo_s=asked.tbt_slo, seed=asked.seed, wall_s=wall_s)
    if asked.json:
        print(json.dumps(found))
    else:
        Console().print(table(found))
    return 0


def line(record: Record) -> dict[str, Any]:  # Any: JSON
    """What is written of each request; token times only where they were kept. Nobody leaves this command's midway."""
    found = asdict(record)
    del found["left"]
    if not record.times_s:
        del found["times_s"]
    return found


def cluster(flags: Sequence[str], *, seed: int) -> Simulation:
    """Of this command's flags, for whoever has a workload of their own. Raises ValueError, like ``build``."""
    parser = _parser()
    asked = parser.parse_args([*flags, "--seed", str(seed)])
    theirs = ("trace", "requests", "length", "speed", "records", "json", "deaths", "slow_hosts", "lost_reports")
    for name in theirs:
        if getattr(asked, name) != parser.get_default(name):
            raise ValueError(f"--{name.replace('_', '-')} says nothing of a cluster")
    return build(asked, keep_times=True)


def build(asked: Namespace, *, keep_times: bool = False) -> Simulation:
    """Raises ValueError with a sentence where there can be no such cluster."""
    machine = profiles.load(asked.profile)
    spec = Spec(
        machine,
        asked.prefill,
        asked.decode,
        mixed=asked.mixed,
        block_tokens=asked.block_tokens or BLOCK_TOKENS,
        dram_bytes=asked.dram,
        ssd_bytes=asked.ssd,
        prefill_seats=asked.prefill_seats,
        eviction=asked.eviction,
        coupled=Coupled(asked.prefix_cache, asked.chunked_prefill) if asked.coupled else None,
        coasting=asked.coasting,
        report_s=asked.report_interval,
    )
    conductor = Conductor(
        policy=asked.policy,
        admission=asked.admission,
        promise=Promise(asked.ttft_slo or inf, asked.tbt_slo or inf),
        seed=asked.seed,
        inline_max_tokens=asked.inline_max_tokens,
        replicate=asked.replicate,
        link_bytes_per_s=machine.link_bytes_per_s if asked.link_rate is None else asked.link_rate,
        ssd_bytes_per_s=machine.ssd_bytes_per_s,
    )
    return Simulation(spec, conductor, chance=Random(asked.seed), keep_times=keep_times)


def table(found: Summary) -> Table:
    """For people."""
    shown = Table(
        title=f"{found['requests']} requests, {found['wall_s']} s, seed {found['seed']}", title_justify="left"
    )
    for column in ("", "mean", "p50", "p90", "p99"):
        shown.add_column(column, justify="right" if column else "left")
    for name, words in (("ttft_s", "TTFT, s"), ("tbt_s", "TBT, s")):
        values = ("-" if value is None else f"{value:.3f}" for value in found[name].values())
        shown.add_row(words, *values)
    shown.add_section()
    for name in ("completed", "rejected"):
        shown.add_row(name, str(found[name]))
    shown.add_row("goodput", f"{found['goodput']:.4f}")
    for name, share in found["hit_rate"].items():
        shown.add_row(f"hit rate, {name}s", f"{share:.4f}")
    return shown


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """On a terminal only, and on stderr: stdout is for the answer."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda record: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("requests", total=total)

        def advance(record: Record) -> None:
            bar.update(task, advance=1)

        yield advance


def _parser() -> Parser:
    parser = Parser(
        prog="moonpool simulate",
        description="Replay a trace on a simulated cluster: the real scheduler and stores, modelled engines and links.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add_trace(parser)
    add(
        "--repeat",
        type=times,
        default=1,
        metavar="N",
        help="replay all that N times, about something else each time [1]",
    )
    add("--prefill", type=number, default=8, metavar="N", help="prefill workers, each on a host of its own [8]")
    add("--decode", type=number, default=8, metavar="N", help="decode workers [8]")
    add("--mixed", type=number, default=0, metavar="N", help="workers that do both [0]")
    add_profile(parser)
    add(
        "--policy",
        default=POLICIES[0],
        choices=POLICIES,
        metavar="NAME",
        help=f"how requests are placed: {', '.join(POLICIES)} [{POLICIES[0]}]",
    )
    add(
        "--admission",
        default="off",
        choices=tuple(each.value for each in Admission),
        metavar="NAME",
        help=f"what is refused: {', '.join(Admission)}; what is promised are the two SLOs [off]",
    )
    add(
        "--inline-max-tokens",
        type=number,
        metavar="N",
        help="the most uncached tokens that a decode worker prefills itself; 0: none [by cost]",
    )
    add(
        "--replicate",
        action=BooleanOptionalAction,
        default=True,
        help="whether stores are told to copy hot prefixes ahead of those who ask [yes]",
    )
    add("--speed", type=above_0, default=1.0, metavar="X", help="replay X times as fast [1]")
    add("--length", type=above_0, default=1.0, metavar="X", help="prompts and answers X times as long [1]")
    add("--ttft-slo", type=above_0, metavar="S", help="seconds to the first token for a request to count as good [any]")
    add(
        "--tbt-slo",
        type=above_0,
        metavar="S",
        help="seconds between tokens (the mean of a request's longest tenth) [any]",
    )
    add("--dram", type=size, metavar="SIZE", help="of each host's store [the profile's]")
    add("--ssd", type=size, default=0, metavar="SIZE", help="of each host's store [none]")
    add(
        "--eviction",
        default="lru",
        choices=tuple(EVICTIONS),
        metavar="NAME",
        help=f"in both tiers: {', '.join(EVICTIONS)} [lru]",
    )
    add(
        "--link-rate",
        type=size,
        metavar="SIZE",
        help="bytes per second between stores that the conductor is told, until they have measured it [the profile's]",
    )
    add("--prefill-seats", type=number, default=8, metavar="N", help="sequences a prefill worker admits at a time [8]")
    add("--deaths", type=number, default=0, metavar="N", help="hosts that die and come back, chosen by the seed [0]")
    add("--slow-hosts", type=number, default=0, metavar="N", help="times that a host is slow for a while [0]")
    add("--lost-reports", type=number, default=0, metavar="N", help="times that a host is not heard for a while [0]")
    add(
        "--coupled",
        action="store_true",
        help="mixed workers without stores, each for itself, as coupled engines are; with --prefill 0 --decode 0",
    )
    add(
        "--prefix-cache",
        action=BooleanOptionalAction,
        default=True,
        help="whether coupled workers find prompts on their device again [yes]",
    )
    add(
        "--chunked-prefill",
        action=BooleanOptionalAction,
        default=True,
        help="whether coupled workers cut prompts into chunks [yes]",
    )
    add("--report-interval", type=above_0, default=REPORT_S, metavar="S", help="how often hosts report, seconds [0.1]")
    add("--block-tokens", type=positive, metavar="N", help=BLOCK_TOKENS_HELP)
    add("--seed", type=number, default=0, metavar="N", help="of all that is drawn: same seed, same result [0]")
    add(
        "--coasting",
        action=BooleanOptionalAction,
        default=True,
        help="take decode steps that are alike as one event; the result is the same [yes]",
    )
    add("--records", type=Path, metavar="FILE", help="write what became of each request, one JSON object a line")
    add("--json", action="store_true", help="print JSON instead of a table")
    return parser
