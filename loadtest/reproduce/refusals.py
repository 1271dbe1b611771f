"""Refusals under overload, and how the loads of both pools swing against each other."""

import numpy as np

from loadtest.reproduce.bench import Bench, Run, good
from loadtest.reproduce.loads import loads
from loadtest.reproduce.table import Cell, Table
from loadtest.simulator.simulation import Sample, Spec
from scheduler.admission import Promise

PAPER = {"baseline": 4183, "early": 3771, "predictive": 3589}
"""arXiv 2407.00079 Table 3: refused of 23,000 requests, 8P+8D, replayed at twice the speed."""

SPLITS = ((8, 8, 0.1), (10, 2, 0.04))
"""As in the paper; and with so few decode workers, and so short a TBT, that decodes run short as well."""

TTFT_S = 30.0
SPEED = 2.0
SAMPLE_S = 5.0


def refusals(bench: Bench) -> Table:
    rows: list[tuple[Cell, ...]] = []
    charts = []
    for prefill, decode, tbt_s in SPLITS:
        sampled: dict[str, list[Sample]] = {}
        for mode, paper in PAPER.items():
            run = Run(
                Spec(bench.machine, prefill, decode),
                speed=SPEED,
                admission=mode,
                promise=Promise(TTFT_S, tbt_s),
                sample_s=SAMPLE_S,
            )
            records, samples = bench.run(run), bench.samples(run)
            sampled[mode] = samples
            refused = [record for record in records if record.rejected is not None]
            wasted = sum(record.ttft_s is not None for record in refused)
            together = _correlation([each.queued_s for each in samples], [each.step_s for each in samples])
            within = good(records, ttft_s=TTFT_S, tbt_s=tbt_s)
            where = f"{prefill}P+{decode}D, TBT {1000 * tbt_s:.0f} ms"
            rows.append(
                (where, mode, paper if (prefill, decode) == (8, 8) else None, len(refused), wasted, within, together)
            )
        charts.append(loads(f"{prefill}P+{decode}D", SPEED, Promise(TTFT_S, tbt_s), sampled))
    return Table(
        "refusals",
        "Refusals by mode of admission at twice the trace's speed, TTFT 30 s",
        (
            "cluster",
            "admission",
            "paper, Table 3",
            "refused",
            "of them after their prefill",
            "share within both SLOs",
            "correlation of both pools' loads",
        ),
        tuple(rows),
        "The paper's trace has 23,000 requests, ours about half as many. With 8P+8D our decode pool is never the "
        "scarce one: its accelerators hold 1.3 million tokens of KV each and a step takes a third of what is promised, "
        "so the three modes decide alike. A share within SLOs counts the mean of each request's longest tenth of gaps, "
        "while admission promises the mean gap. The correlation is of the mean prefill seconds queued and the mean "
        "decode step, "
        f"sampled every {SAMPLE_S:.0f} s; below 0 one pool is busy while the other is not.",
        tuple(charts),
    )


def _correlation(one: list[float], other: list[float]) -> float | None:
    if len(one) < 3 or not (np.std(one) and np.std(other)):
        return None
    return round(float(np.corrcoef(one, other)[0, 1]), 3)
