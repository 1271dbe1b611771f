"""Effective request capacity: prefill and decode apart with a shared cache, against coupled nodes."""

from loadtest.reproduce.bench import Bench, Cell, Run, Table, good
from loadtest.simulator.simulation import Coupled, Spec

PAPER = {0.1: "+498 %", 0.2: "+157 %", 0.3: "+59 %"}
"""FAST'25 Figure 1, conversation trace: more requests within TTFT 30 s and this TBT than vLLM."""

TTFT_S = 30.0


def capacity(bench: Bench) -> Table:
    nodes = {
        "chunked": Coupled(),
        "chunked, no prefix cache": Coupled(prefix_cache=False),
        "whole prompts": Coupled(chunked_prefill=False),
    }
    ours = bench.run(Run(Spec(bench.machine, 8, 8)))
    theirs = [bench.run(Run(Spec(bench.machine, 0, 0, 16, coupled=each), "least-loaded")) for each in nodes.values()]
    rows: list[tuple[Cell, ...]] = []
    for tbt_s, paper in PAPER.items():
        shares = [good(records, ttft_s=TTFT_S, tbt_s=tbt_s) for records in (ours, *theirs)]
        gains = [f"{100 * (shares[0] / share - 1):+.0f} %" if share else "no bound" for share in shares[1:]]
        rows.append((f"{1000 * tbt_s:.0f} ms", paper, *gains, *shares))
    return Table(
        "capacity",
        "Requests within TTFT 30 s and a TBT: 8P+8D against 16 coupled nodes, at the trace's own speed",
        (
            "TBT",
            "FAST'25 Fig. 1",
            *(f"gain over coupled, {name}" for name in nodes),
            "share, 8P+8D",
            *(f"share, coupled, {name}" for name in nodes),
        ),
        tuple(rows),
        "The paper's baseline is vLLM; ours is our own batcher on the same modelled engine, prefill and decode in one "
        "batch with steps of at most 0.25 s (or of a whole prompt), requests to the least loaded node. A gain depends "
        "on the load: at one where both keep every promise there is none.",
    )
