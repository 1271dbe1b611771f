"""Effective request capacity: prefill and decode apart with a shared cache, against coupled nodes.

Capacity is the highest speed of replay, of a ladder of speeds, at which enough requests keep both promises.
"""

from collections.abc import Callable
from dataclasses import replace

from loadtest.reproduce.bench import Bench, Run, good
from loadtest.reproduce.table import Cell, Chart, Panel, Series, Table
from loadtest.simulator.spec import Coupled, Spec

PAPER = {0.1: "+498 %", 0.2: "+157 %", 0.3: "+59 %"}
"""FAST'25 Figure 1, conversation trace: more requests within TTFT 30 s and this TBT than vLLM."""

TTFT_S = 30.0
KEPT = 0.9
FIRST = 1000
"""Requests of the trace, so that a search takes minutes: five of them at the trace's own speed."""

SPEEDS = tuple(round(0.2 * 1.25**step, 3) for step in range(15))
"""0.2 to 4.5 times the trace's own speed, each a quarter above the last."""

COUPLED = {
    "coupled, chunked": Coupled(),
    "coupled, chunked, no prefix cache": Coupled(prefix_cache=False),
    "coupled, whole prompts": Coupled(chunked_prefill=False),
}
APART = "8P+8D"


def capacity(bench: Bench) -> Table:
    systems = {APART: Run(Spec(bench.machine, 8, 8), first=FIRST)}
    for name, coupled in COUPLED.items():
        systems[name] = Run(Spec(bench.machine, 0, 0, 16, coupled=coupled), "least-loaded", first=FIRST)
    searched = {name: _Searched(bench, run) for name, run in systems.items()}
    rows: list[tuple[Cell, ...]] = []
    for tbt_s, paper in PAPER.items():
        speeds = [each.capacity(tbt_s) for each in searched.values()]
        rows.append((f"{1000 * tbt_s:.0f} ms", paper, *(_gain(speeds[0], other) for other in speeds[1:]), *speeds))
    return Table(
        "capacity",
        f"The highest speed of replay at which {100 * KEPT:.0f} % of requests keep TTFT 30 s and a TBT: "
        "8P+8D against 16 coupled nodes",
        ("TBT", "FAST'25 Fig. 1", *(f"gain over {name}" for name in COUPLED), *(f"speed, {name}" for name in systems)),
        tuple(rows),
        "The paper's baseline is vLLM; ours is our own batcher on the same modelled engine, prefill and decode in one "
        "batch with steps of at most 0.25 s (or of a whole prompt), requests to the least loaded node. Speeds are "
        f"searched on the trace's first {FIRST:,} requests, up a ladder of steps of 25 %; - is below {SPEEDS[0]} "
        "times the trace's speed. TBT is the mean of a request's longest tenth of gaps. Chunked steps are at most "
        "0.25 s: at 300 ms only TTFT binds such coupled nodes, all sixteen of which prefill, and they carry more "
        "than 8P+8D.",
        (
            Chart(
                "capacity",
                f"Share of requests within TTFT 30 s and a TBT (capacity: {100 * KEPT:.0f} %)",
                tuple(_panel(tbt_s, searched) for tbt_s in PAPER),
            ),
        ),
    )


class _Searched:
    """One system at whichever speeds it was asked about."""

    def __init__(self, bench: Bench, run: Run) -> None:
        self._bench, self._run = bench, run
        self.speeds: set[float] = set()

    def share(self, speed: float, tbt_s: float) -> float:
        self.speeds.add(speed)
        return good(self._bench.run(replace(self._run, speed=speed)), ttft_s=TTFT_S, tbt_s=tbt_s)

    def capacity(self, tbt_s: float) -> float | None:
        return highest(SPEEDS, lambda speed: self.share(speed, tbt_s) >= KEPT)


def highest(speeds: tuple[float, ...], keeps: Callable[[float], bool]) -> float | None:
    """The last of ``speeds``, ascending, that keeps, as if all before it did: halving what is left."""
    kept, lost = -1, len(speeds)
    while lost - kept > 1:
        middle = (kept + lost) // 2
        if keeps(speeds[middle]):
            kept = middle
        else:
            lost = middle
    return speeds[kept] if kept >= 0 else None


def _gain(ours: float | None, other: float | None) -> str:
    if ours is None:
        return "-"
    return "no bound" if other is None else f"{100 * (ours / other - 1):+.0f} %"


def _panel(tbt_s: float, searched: dict[str, _Searched]) -> Panel:
    series = []
    for name, each in searched.items():
        speeds = tuple(sorted(each.speeds))
        series.append(Series(name, speeds, tuple(each.share(speed, tbt_s) for speed in speeds)))
    title = f"TBT {1000 * tbt_s:.0f} ms"
    return Panel(title, "speed of replay", "share within both SLOs", tuple(series), log_x=True)
