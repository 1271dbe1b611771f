"""``moonpool plan``: the smallest cluster that keeps a promise to a trace. Exit status 1 where there is none."""

import json
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

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
    trace_file,
)
from loadtest.plan import report
from loadtest.plan.arithmetic import balanced, begin_at, impossible
from loadtest.plan.goal import Goal, Verdict
from loadtest.plan.plan import Plan, plan
from loadtest.plan.trials import Trials
from loadtest.request import Request
from loadtest.simulator.machine import Machine
from loadtest.simulator.record import Record
from loadtest.trace_file import read, say
from loadtest.traces import TraceError, requests

HALVINGS = 6
"""Without ``--dram`` a store may have the profile's DRAM or its half, and so on down to a sixty-fourth."""


def main(argv: Sequence[str]) -> int:
    parser = _parser()
    asked = parser.parse_args(list(argv))
    try:
        trace = timed(read(trace_file(asked), seed=asked.seed), asked.trace)
    except TraceError as error:
        return _no(str(error))
    say("moonpool plan", trace)
    asked.block_tokens = asked.block_tokens or cluster_block_tokens(trace)
    rows, machine = trace.rows[: asked.requests], profiles.load(asked.profile)
    if not rows:
        parser.error("a plan needs a request")
    if asked.max_nodes < 2:
        parser.error("a cluster has two nodes or more: --max-nodes")
    goal = Goal(asked.ttft_slo, asked.tbt_slo, asked.goodput)
    hopeless = impossible(rows, machine, goal, block_tokens=trace.block_tokens)
    if hopeless is not None:
        return _no(f"no cluster keeps {goal}: {hopeless}")
    workload = requests(rows, speed=asked.speed, block_tokens=trace.block_tokens)
    with _trials(asked, workload, machine, goal) as trials:
        drams = _drams(asked.dram, machine)
        guess = begin_at(rows, machine, goal, speed=asked.speed, block_tokens=trace.block_tokens)
        try:
            found = plan(trials, nodes=asked.max_nodes, guess=guess, drams=drams)
            if found.smallest is None:
                trials.verdict(*balanced(guess, asked.max_nodes), drams[-1])  # what there is to say comes from it
        except ValueError as error:
            parser.error(str(error))
    return _told(asked, goal, trials, found)


def _told(asked: Namespace, goal: Goal, trials: Trials, found: Plan) -> int:
    if asked.json:
        print(json.dumps(report.document(goal, trials, found)))
    if found.smallest is None:
        best = trials.best(asked.max_nodes)
        assert best is not None, "the balanced one was tried"
        return _no(report.nothing_found(goal, best, asked.max_nodes))
    if not asked.json:
        print(f"{goal} on {asked.profile}: {trials.simulations} simulations")
        Console().print(report.table(found))
        print(f"look at it: {report.simulate(asked, found.smallest)}")
        print(f"serve: {report.serve(found.smallest)}, with a host for each of its {found.smallest.nodes} workers")
    return 0


def _drams(asked: Sequence[int] | None, machine: Machine) -> list[int]:
    """Ascending."""
    return sorted(set(asked or [machine.dram_bytes >> halving for halving in range(HALVINGS + 1)]))


@contextmanager
def _trials(asked: Namespace, workload: Sequence[Request], machine: Machine, goal: Goal) -> Iterator[Trials]:
    """On stderr: a bar of requests on a terminal, a line for each cluster that was tried anywhere."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("requests", total=len(workload))

        def tried(found: Verdict) -> None:
            bar.reset(task)
            console.print(report.tried(found, kept=trials.kept(found)), highlight=False, soft_wrap=True)

        def over(record: Record) -> None:
            bar.advance(task)

        trials = Trials(workload, machine, goal, asked.seed, asked.block_tokens, tried=tried, over=over)
        yield trials


def _no(sentence: str) -> int:
    print(f"moonpool plan: {sentence}", file=sys.stderr)
    return 1


def _share(text: str) -> float:
    value = above_0(text)
    if value > 1.0:
        raise ArgumentTypeError(f"{text!r} is no share: above 0, and at most 1")
    return value


def _parser() -> Parser:
    parser = Parser(
        prog="moonpool plan",
        description="Find the smallest cluster that keeps both SLOs for a trace, by simulation: how many prefill and "
        "decode workers, each on a host of its own, and how much DRAM for each host's store.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add_trace(parser)
    add("--ttft-slo", type=above_0, required=True, metavar="S", help="seconds to the first token")
    add(
        "--tbt-slo",
        type=above_0,
        required=True,
        metavar="S",
        help="seconds between tokens (the mean of a request's longest tenth)",
    )
    add("--goodput", type=_share, default=0.9, metavar="X", help="the share of requests that keep both [0.9]")
    add_profile(parser)
    add("--speed", type=above_0, default=1.0, metavar="X", help="replay X times as fast [1]")
    add("--max-nodes", type=number, default=32, metavar="N", help="prefill and decode workers together [32]")
    add(
        "--dram",
        type=size,
        action="append",
        metavar="SIZE",
        help="of each host's store; can be repeated, and the least that is enough is found [the profile's, and "
        f"what halving it up to {HALVINGS} times gives]",
    )
    add("--block-tokens", type=positive, metavar="N", help=BLOCK_TOKENS_HELP)
    add("--seed", type=number, default=0, metavar="N", help="of all that is drawn: same seed, same result [0]")
    add("--json", action="store_true", help="print JSON instead of a table")
    return parser
