"""On how many prefill nodes the hottest blocks are, as time goes by."""

from bisect import bisect_left

from loadtest.reproduce.bench import PART, Bench, Run
from loadtest.reproduce.copies import CLASSES, Copies
from loadtest.reproduce.table import Cell, Chart, Panel, Series, Table
from loadtest.simulator.machine import Machine
from loadtest.simulator.spec import Spec

NODES = 10
POLICIES = ("kvcache-centric", "local-cache")
EVERY_S = 10.0
SHARES = (0.1, 0.5, 1.0)
"""Of the run, when a row looks."""


def replicated(machine: Machine, policy: str) -> Run:
    """The cluster of this experiment, which others look at, too."""
    return Run(Spec(machine, NODES, NODES), policy, first=PART, copies_s=EVERY_S)


def replicas(bench: Bench) -> Table:
    rows: list[tuple[Cell, ...]] = []
    panels = []
    for policy in POLICIES:
        copies = bench.copies(replicated(bench.machine, policy))
        for place, size in enumerate(CLASSES):
            found = [round(_at(copies, share).mean[place], 2) for share in SHARES]
            rows.append((policy, f"hottest {size:,}", *found))
        panels.append(_panel(policy, copies))
    return Table(
        "replicas",
        f"On how many of {NODES} prefill nodes a hot block is, in the mean: {NODES}P+{NODES}D, first {PART:,} requests",
        ("policy", "blocks", *(f"after {100 * share:.0f} % of the run" for share in SHARES)),
        tuple(rows),
        "FAST'25 says that hot blocks end up on almost every prefill node, as a side effect of scheduling. Hot is what "
        "the whole trace asks for most often. In the published trace only the first block, which all requests share, "
        "is hot for the whole hour: the next ones are asked for 43 times, the hundredth 21, the thousandth 10 times. "
        "Copies are made faster than by local-cache, but after ten minutes the hottest ten are on little more than "
        "half of the nodes.",
        (Chart("replicas", "Prefill nodes that hold a hot block", tuple(panels)),),
    )


def _at(copies: list[Copies], share: float) -> Copies:
    """The first that is as late as this share of the run."""
    times = [each.at_s for each in copies]
    return copies[min(bisect_left(times, share * times[-1]), len(copies) - 1)]


def _panel(policy: str, copies: list[Copies]) -> Panel:
    minutes = tuple(each.at_s / 60 for each in copies)
    series = [
        Series(f"hottest {size:,}", minutes, tuple(round(each.mean[place], 3) for each in copies))
        for place, size in enumerate(CLASSES)
    ]
    return Panel(policy, "minutes", f"nodes of {NODES}, mean", tuple(series), points=False)
