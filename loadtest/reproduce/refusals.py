"""Refusals under overload, and how the loads of both pools swing against each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.reproduce.bench import Bench, Run, good, mean_ttft_s
from loadtest.reproduce.loads import loads
from loadtest.reproduce.table import Cell, Table
from loadtest.simulator.pools import Sample
from loadtest.simulator.record import Record
from loadtest.simulator.spec import Spec
from scheduler.vocabulary import Promise

PAPER = {"baseline": 4183, "early": 3771, "predictive": 3589}
"""arXiv 2407.00079 Table 3: refused of 23,000 requests, 8P+8D, replayed at twice the speed."""


@dataclass(frozen=True, slots=True)
class Case:
    """A cluster under a replay that asks for more than it has."""

    prefill: int
    decode: int
    speed: float
    promise: Promise

    def __str__(self) -> str:
        promise = f"TTFT {self.promise.ttft_s:g} s, TBT {1000 * self.promise.tpot_s:.0f} ms"
        return f"{self.prefill}P+{self.decode}D, {self.speed:g}x, {promise}"


THE_PAPERS = Case(8, 8, 2.0, Promise(30.0, 0.1))
BALANCED = (Case(5, 2, 2.0, Promise(10.0, 0.04)), Case(8, 3, 3.0, Promise(10.0, 0.04)))
"""Both pools are about as short as each other; later, when more is found cached, decodes are shorter. A prompt that can
be prefilled within 10 s (97 % of the trace's) takes 1.3 s, 0.9 with hits, so five workers do 5.5 a second. A step of N
sequences takes 17.4 + 0.45 N ms; a request's slowest tenth of gaps is up to 1.3 times that, so 40 ms allow N = 28, and
two workers do 2 x 28 / (343 x 0.03 s) = 5.4 a second. Offered are 6.8; and at three times the speed 10.2, where eight
and three do 8.9 and 8.2."""
DECODE_IS_SHORT = Case(10, 1, 3.0, Promise(30.0, 0.1))
"""One decode worker has room for 1.3 million tokens, about 105 requests, 4.7 a second at steps of 65 ms; ten prefill
workers do 8."""

CASES = (THE_PAPERS, *BALANCED, DECODE_IS_SHORT)
SAMPLE_S = 2.0


def refusals(bench: Bench) -> Table:
    rows: list[tuple[Cell, ...]] = []
    charts = []
    for case in CASES:
        promise, sampled = case.promise, dict[str, list[Sample]]()
        for mode, paper in PAPER.items():
            spec = Spec(bench.machine, case.prefill, case.decode)
            run = Run(spec, speed=case.speed, admission=mode, promise=promise, sample_s=SAMPLE_S)
            records, samples = bench.run(run), bench.samples(run)
            sampled[mode] = samples
            refused = [record for record in records if record.rejected is not None]
            rows.append(
                (
                    str(case),
                    mode,
                    paper if case is THE_PAPERS else None,
                    len(refused),
                    sum(record.ttft_s is not None for record in refused),
                    good(records, ttft_s=promise.ttft_s, tbt_s=promise.tpot_s),
                    good_tokens(records, promise),
                    mean_ttft_s([record for record in records if record.ended_s is not None]),
                    *swings(samples, promise, until_s=max(record.asked_s for record in records)),
                )
            )
        charts.append(loads(f"{case.prefill}P+{case.decode}D", case.speed, promise, sampled))
    return Table(
        "refusals",
        "Refusals by mode of admission, at two and three times the trace's speed",
        (
            "cluster",
            "admission",
            "paper, Table 3",
            "refused",
            "of them after their prefill",
            "share within both SLOs",
            "share of output tokens",
            "mean TTFT of who finished, s",
            "correlation of both pools' loads",
            "deviation of the prefill load",
            "of the decode load",
        ),
        tuple(rows),
        "The paper's trace has 23,000 requests, ours about half as many. With 8P+8D our decode pool is never the "
        "scarce one (a step takes a third of what is promised), so the modes decide alike. All three look at the "
        "decode pool again when a prefill ends, as the paper's decode nodes do. `early` gains most where KV is short "
        "(10P+1D): the longest prompts, which find no room, are refused before they are computed, so queues are short, "
        "more is found cached, and more short prompts are served. Where decode is short of steps, whatever becomes "
        "free is filled by whoever is at hand, so `baseline` loses little but time; the paper's own gain is 1.8 % of "
        "its requests by deciding early and 0.8 % more by predicting. `predictive` expects room for longer prompts "
        "than find it now, so where KV is short it takes fewer and longer requests than `early`. A load is a "
        "pool's mean of seconds queued, or of a step, over what was promised, every "
        f"{SAMPLE_S:.0f} s while requests come. Below 0 one pool is busy while the other is not; how far they swing is "
        "their deviation. On arrival alone they swing much further: see Admission in scheduling.md.",
        tuple(charts),
    )


def good_tokens(records: Sequence[Record], promise: Promise) -> float:
    """The share of the output tokens asked for that came within both SLOs of their requests."""
    kept = sum(each.output_tokens for each in records if each.within(promise.ttft_s, promise.tpot_s))
    return round(kept / sum(each.output_tokens for each in records), 4)


def swings(samples: Sequence[Sample], promise: Promise, *, until_s: float) -> tuple[float | None, float, float]:
    """Of the loads of both pools: their correlation, None where one never changes, and each one's deviation."""
    seen = [each for each in samples if each.at_s <= until_s]
    prefill = np.array([each.queued_s for each in seen]) / promise.ttft_s
    decode = np.array([each.step_s for each in seen]) / promise.tpot_s
    deviations = round(float(prefill.std()), 3), round(float(decode.std()), 3)
    together = round(float(np.corrcoef(prefill, decode)[0, 1]), 3) if len(seen) > 2 and all(deviations) else None
    return together, *deviations
