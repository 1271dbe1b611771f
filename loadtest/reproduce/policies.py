"""Average TTFT by scheduling policy."""

from loadtest.reproduce.bench import Bench, Run, Table, mean_ttft_s
from loadtest.simulator.simulation import Spec

PAPER = {
    "random": (19.65, 92.07),
    "least-loaded": (5.27, 60.41),
    "local-cache": (3.58, 14.36),
    "kvcache-centric": (3.07, 6.26),
}
"""FAST'25 Figure 5 (conversation trace, 16 nodes), arXiv 2407.00079 Figure 8 (23,000 requests, 8P+8D), in seconds."""


def policies(bench: Bench) -> Table:
    spec = Spec(bench.machine, 8, 8)
    rows = []
    for name, paper in PAPER.items():
        records = bench.run(Run(spec, name))
        blocks = sum(record.blocks for record in records)
        hits = round(sum(record.cached_blocks for record in records) / blocks, 3)
        rows.append((name, *paper, mean_ttft_s(records), hits))
    return Table(
        "policies",
        "Average TTFT by scheduling policy, seconds: 8P+8D, at the trace's own speed",
        ("policy", "FAST'25 Fig. 5", "arXiv Fig. 8", "ours", "ours, hit rate"),
        tuple(rows),
        "The arXiv figure is of another trace (23,000 requests). Blocks are 512 tokens here and 256 in the FAST'25 "
        "paper; our engine is its FLOPs at half the peak and needs no time between steps, so queues are shorter.",
    )
