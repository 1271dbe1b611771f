"""How loaded both pools were over time, by mode of admission: the picture of the oscillation, or of its absence.

A prefill worker's load is what is queued there of what TTFT allows; a decode worker's the step it takes of the TBT.
"""

from collections.abc import Mapping, Sequence

from loadtest.reproduce.table import Chart, Panel, Series
from loadtest.simulator.pools import Sample
from scheduler.vocabulary import Promise


def loads(cluster: str, speed: float, promise: Promise, sampled: Mapping[str, Sequence[Sample]]) -> Chart:
    """sampled: of each mode. One panel a mode, with the same axes."""
    return Chart(
        f"refusals-{cluster.lower()}".replace("+", "-"),
        f"Load of both pools of {cluster} at {speed:g} times the trace's speed, by mode of admission",
        tuple(_panel(mode, promise, samples) for mode, samples in sampled.items()),
        stacked=True,
    )


def _panel(mode: str, promise: Promise, samples: Sequence[Sample]) -> Panel:
    times = tuple(sample.at_s / 60 for sample in samples)
    prefill = tuple(round(sample.queued_s / promise.ttft_s, 4) for sample in samples)
    decode = tuple(round(sample.step_s / promise.tpot_s, 4) for sample in samples)
    series = (Series("prefill: queued / TTFT promised", times, prefill), Series("decode: step / TBT", times, decode))
    return Panel(mode, "minutes", "load", series, points=False)
