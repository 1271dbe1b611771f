"""Average TTFT against the bandwidth between nodes."""

from dataclasses import replace

from loadtest.reproduce.bench import Bench, Run, Table, mean_ttft_s
from loadtest.simulator.simulation import Spec

GBPS = (24, 50, 100, 200, 400, 800)


def bandwidth(bench: Bench) -> Table:
    rows = []
    for gbps in GBPS:
        machine = replace(bench.machine, link_bytes_per_s=gbps * 1e9 / 8)
        records = bench.run(Run(Spec(machine, 8, 8)))
        tbts = [record.tbt_s for record in records if record.tbt_s is not None]
        rows.append((gbps, mean_ttft_s(records), round(sum(tbts) / len(tbts), 4)))
    return Table(
        "bandwidth",
        "Average TTFT against the bandwidth of a node: 8P+8D, at the trace's own speed",
        ("Gbps", "ours, mean TTFT, s", "ours, mean TBT, s"),
        tuple(rows),
        "FAST'25 Figure 13: below 2 s above 100 Gbps, a sharp loss below. What a slow link delays here is mostly the "
        "second token, which waits for the hand-over: that is in the TBT. The conductor knows the bandwidth and "
        "fetches less.",
    )
