"""How many of 16 nodes should prefill."""

from loadtest.reproduce.bench import PART, Bench, Run, good
from loadtest.reproduce.table import Chart, Panel, Series, Table
from loadtest.simulator.spec import Spec

PAPER = {5: 78.0, 6: 97.0, 7: 99.0, 8: 99.0, 9: 99.0, 10: 98.5, 11: 86.0}
"""FAST'25 Figure 15: percent of requests within TTFT 10 s and TBT 100 ms, synthetic trace."""

TTFT_S, TBT_S = 10.0, 0.1
NODES = 16


def ratio(bench: Bench) -> Table:
    rows = []
    for prefill, paper in PAPER.items():
        records = bench.run(Run(Spec(bench.machine, prefill, NODES - prefill), first=PART))
        share = round(100 * good(records, ttft_s=TTFT_S, tbt_s=TBT_S), 1)
        first = sum(record.ttft_s is not None and record.ttft_s <= TTFT_S for record in records)
        rows.append((f"{prefill}P+{NODES - prefill}D", paper, share, round(100 * first / len(records), 1)))
    places = tuple(map(float, PAPER))
    series = (
        Series("ours, both SLOs", places, tuple(row[2] for row in rows)),
        Series("ours, TTFT alone", places, tuple(row[3] for row in rows)),
        Series("FAST'25, Figure 15", places, tuple(PAPER.values()), paper=True),
    )
    x, y = f"prefill workers of {NODES} nodes", "percent of requests"
    return Table(
        "ratio",
        f"Requests within TTFT 10 s and TBT 100 ms by the split of 16 nodes, percent of the trace's first {PART:,}",
        ("split", "FAST'25 Fig. 15", "ours", "ours, TTFT alone"),
        tuple(rows),
        "The paper's trace is its synthetic one; ours is the conversation trace, in which one prompt in thirty is so "
        "long that no node of this profile prefills it in 10 s, unless most of it is cached. The paper's fall "
        "on the right does not appear: five of our decode workers are enough for its load.",
        (Chart("ratio", "Requests within both SLOs by the split of 16 nodes", (Panel("", x, y, series),)),),
    )
