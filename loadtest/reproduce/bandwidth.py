"""Average TTFT against the bandwidth between nodes."""

from dataclasses import replace

from loadtest.reproduce.bench import PART, Bench, Run, block_hit_rate, mean_ttft_s
from loadtest.reproduce.table import Chart, Panel, Series, Table
from loadtest.simulator.spec import Spec

GBPS = (24, 50, 100, 200, 400, 800)


def bandwidth(bench: Bench) -> Table:
    rows = []
    for gbps in GBPS:
        machine = replace(bench.machine, link_bytes_per_s=gbps * 1e9 / 8)
        records = bench.run(Run(Spec(machine, 8, 8), first=PART))
        tbts = [record.tbt_s for record in records if record.tbt_s is not None]
        rows.append((gbps, mean_ttft_s(records), round(sum(tbts) / len(tbts), 4), block_hit_rate(records)))
    speeds = tuple(map(float, GBPS))
    panels = [
        Panel(title, "Gbps of a node", y, (Series("ours", speeds, tuple(row[column] for row in rows)),), log_x=True)
        for title, y, column in (("mean TTFT", "TTFT, seconds", 1), ("mean TBT", "TBT, seconds", 2))
    ]
    return Table(
        "bandwidth",
        f"Average TTFT against the bandwidth of a node: 8P+8D, the first {PART:,} requests at the trace's own speed",
        ("Gbps", "ours, mean TTFT, s", "ours, mean TBT, s", "ours, hit rate"),
        tuple(rows),
        "FAST'25 Figure 13: below 2 s above 100 Gbps, a sharp loss below. What a slow link delays here is mostly the "
        "second token, which waits for the hand-over: that is in the TBT. The conductor knows the bandwidth and "
        "fetches less.",
        (Chart("bandwidth", "What a node's bandwidth does to the first token and to the next ones", tuple(panels)),),
    )
