"""What a prefill's KV costs on its way out: sent layer by layer while later layers are computed, or afterwards.

Layers take equal parts of a prefill's time and of its bytes. They leave over the simulator's own links; what is
still on its way when the computation is over is exposed. Beside it one request through the whole simulator.
"""

from functools import partial

from loadtest.reproduce.bench import Bench
from loadtest.reproduce.run import Run, make
from loadtest.reproduce.table import Cell, Chart, Panel, Series, Table
from loadtest.simulator.events import Events
from loadtest.simulator.links import Links
from loadtest.simulator.machine import Machine
from loadtest.simulator.spec import Spec
from loadtest.traces import Row
from loadtest.traces.trace import BLOCK_TOKENS
from scheduler.estimate import prefill_s

PAPER = {8_192: (0.11, 0.10), 128_000: (0.87, 0.10)}
"""arXiv 2407.00079 Figure 7 at its two ends, seconds exposed: serialised, layer by layer. The latter is flat."""

TOKENS = (8_192, 16_384, 32_768, 65_536, 128_000)
LAYERS = 80
"""Of a 70B Llama."""


def layerwise(bench: Bench) -> Table:
    machine = bench.machine
    rows: list[tuple[Cell, ...]] = []
    after, along, second = [], [], []
    for tokens in TOKENS:
        after.append(round(exposed_s(machine, tokens, layerwise=False), 4))
        along.append(round(exposed_s(machine, tokens, layerwise=True), 4))
        second.append(_second_token_s(bench, tokens))
        paper = PAPER.get(tokens, (None, None))
        prefill = round(prefill_s(machine.profile, tokens), 3)
        rows.append((tokens, *paper, after[-1], along[-1], second[-1], prefill))
    x = tuple(map(float, TOKENS))
    ends = tuple(map(float, PAPER))
    series = (
        Series("ours, serialised", x, tuple(after)),
        Series("ours, layer by layer", x, tuple(along)),
        Series("arXiv, Figure 7: serialised", ends, tuple(each for each, _ in PAPER.values()), paper=True),
        Series("arXiv, Figure 7: layer by layer", ends, tuple(each for _, each in PAPER.values()), paper=True),
    )
    panel = Panel("", "tokens of the prompt", "seconds exposed", series, log_x=True, log_y=True)
    return Table(
        "layerwise",
        "Seconds that a hand-over of KV takes beyond its prefill: serialised, and layer by layer",
        (
            "tokens",
            "arXiv Fig. 7, serialised",
            "arXiv Fig. 7, layer-wise",
            "ours, serialised",
            "ours, layer-wise",
            "simulator: first to second token",
            "its prefill",
        ),
        tuple(rows),
        "A layer's KV takes a few hundredths of the time that the next layer computes, so only the last layer's is "
        "exposed, which is bytes / bandwidth / 80. The paper's flat 0.10 s must be a fixed cost of its own that this "
        "arithmetic does not have. The column before the last is 1P+1D in the simulator with chunked prefill and push: "
        "all that is between both tokens, the second store's copy to its device and a decode step among it.",
        (Chart("layerwise", "What is exposed of a hand-over", (panel,)),),
    )


def exposed_s(machine: Machine, tokens: int, *, layerwise: bool) -> float:
    """How long after the last layer the last byte has come."""
    events = Events()
    links = Links(events, bytes_per_s=machine.link_bytes_per_s, latency_s=machine.link_latency_s)
    computed_s, size = prefill_s(machine.profile, tokens), tokens * machine.kv_bytes // LAYERS
    for layer in range(1, LAYERS + 1):
        ready_s = computed_s * layer / LAYERS if layerwise else computed_s
        events.at(ready_s, partial(links.send, "prefill", "decode", size, _arrived))
    events.run()
    return events.now - computed_s


def _arrived() -> None:
    """The time is all that is wanted."""


def _second_token_s(bench: Bench, tokens: int) -> float | None:
    row = Row(0.0, tokens, 2, tuple(range(-(-tokens // BLOCK_TOKENS))))
    (record,) = make([row], bench.seed, Run(Spec(bench.machine, 1, 1))).records
    return None if record.tbt_s is None else round(record.tbt_s, 4)
