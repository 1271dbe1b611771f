"""How many of 16 nodes should prefill."""

from loadtest.reproduce.bench import Bench, Run, Table, good
from loadtest.simulator.simulation import Spec

PAPER = {5: 78.0, 6: 97.0, 7: 99.0, 8: 99.0, 9: 99.0, 10: 98.5, 11: 86.0}
"""FAST'25 Figure 15: percent of requests within TTFT 10 s and TBT 100 ms, synthetic trace."""


def ratio(bench: Bench) -> Table:
    rows = []
    for prefill, paper in PAPER.items():
        records = bench.run(Run(Spec(bench.machine, prefill, 16 - prefill)))
        rows.append((f"{prefill}P+{16 - prefill}D", paper, round(100 * good(records, ttft_s=10.0, tbt_s=0.1), 1)))
    return Table(
        "ratio",
        "Requests within TTFT 10 s and TBT 100 ms by the split of 16 nodes, percent",
        ("split", "FAST'25 Fig. 15", "ours"),
        tuple(rows),
        "The paper's trace is its synthetic one; ours is the conversation trace, in which one prompt in thirty is so "
        "long that no node of this profile prefills it in 10 s, unless most of it is cached.",
    )
