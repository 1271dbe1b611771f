"""Average TTFT by scheduling policy."""

from loadtest.reproduce.bench import Bench, Run, block_hit_rate, mean_ttft_s
from loadtest.reproduce.table import Cell, Chart, Panel, Series, Table
from loadtest.simulator.spec import Spec

PAPER = {
    "random": (19.65, 92.07),
    "least-loaded": (5.27, 60.41),
    "local-cache": (3.58, 14.36),
    "kvcache-centric": (3.07, 6.26),
}
"""FAST'25 Figure 5 (conversation trace, 16 nodes), arXiv 2407.00079 Figure 8 (23,000 requests, 8P+8D), in seconds."""

FASTER = 1.5


def policies(bench: Bench) -> Table:
    spec = Spec(bench.machine, 8, 8)
    rows: list[tuple[Cell, ...]] = []
    ours: list[float] = []
    ours_faster: list[float] = []
    for name, paper in PAPER.items():
        records = bench.run(Run(spec, name))
        faster = bench.run(Run(spec, name, speed=FASTER))
        ours.append(mean_ttft_s(records))
        ours_faster.append(mean_ttft_s(faster))
        rows.append((name, *paper, ours[-1], block_hit_rate(records), ours_faster[-1]))
    places = tuple(map(float, range(len(rows))))
    series = (
        Series("FAST'25, Figure 5", places, tuple(paper for paper, _ in PAPER.values()), paper=True),
        Series("ours", places, tuple(ours)),
        Series(f"ours at {FASTER} times the speed", places, tuple(ours_faster)),
    )
    return Table(
        "policies",
        f"Average TTFT by scheduling policy, seconds: 8P+8D, at the trace's own speed and {FASTER} times it",
        ("policy", "FAST'25 Fig. 5", "arXiv Fig. 8", "ours", "ours, hit rate", f"ours, {FASTER} times"),
        tuple(rows),
        "The arXiv figure is of another trace (23,000 requests). Blocks are 512 tokens here and 256 in the FAST'25 "
        "paper; our engine is its FLOPs at half the peak and needs no time between steps, so queues are shorter. "
        f"At {FASTER} times the speed the published trace's first ten minutes ask for more prefill than eight nodes "
        "have, so whoever finds little again queues for minutes.",
        (
            Chart(
                "policies",
                "Average TTFT by scheduling policy, 8P+8D",
                (Panel("", "", "seconds", series, bars=tuple(PAPER), log_y=True),),
            ),
        ),
    )
