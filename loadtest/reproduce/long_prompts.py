"""What a cached prefix saves of one long prompt: the arithmetic of its prefill, and its TTFT through the simulator."""

from dataclasses import replace

from loadtest.reproduce.bench import Bench
from loadtest.reproduce.run import Run, make
from loadtest.reproduce.table import Cell, Chart, Panel, Series, Table
from loadtest.simulator.record import Record
from loadtest.simulator.spec import Spec
from loadtest.traces import Row
from loadtest.traces.trace import BLOCK_TOKENS
from scheduler.estimate import prefill_s

PAPER = {95: (92, 86)}
"""FAST'25 Figure 14: percent saved of the prefill's time and of TTFT, 128k tokens, of which so many are cached."""

BLOCKS = 250
TOKENS = BLOCKS * BLOCK_TOKENS
PERCENT = (0, 25, 50, 75, 90, 95)


def long_prompts(bench: Bench) -> Table:
    profile = bench.machine.profile
    prefills: list[float] = []
    ttfts: list[float] = []
    rows: list[tuple[Cell, ...]] = []
    for percent in PERCENT:
        record = _asked(bench, BLOCKS * percent // 100)
        assert record.ttft_s is not None, "nobody else is there"
        prefills.append(prefill_s(profile, TOKENS, record.cached_tokens))
        ttfts.append(record.ttft_s)
        saved = [round(100 * (1 - found[-1] / found[0]), 1) for found in (prefills, ttfts)]
        rows.append(
            (
                f"{percent} %",
                record.cached_tokens,
                *PAPER.get(percent, (None, None)),
                *saved,
                round(prefills[-1], 2),
                round(ttfts[-1], 2),
            )
        )
    x = tuple(map(float, PERCENT))
    series = (Series("prefill", x, tuple(prefills)), Series("TTFT", x, tuple(ttfts)))
    return Table(
        "long-prompts",
        "A prompt of 128,000 tokens, part of it cached in DRAM: percent saved",
        (
            "cached",
            "tokens reused",
            "FAST'25 Fig. 14, prefill",
            "FAST'25 Fig. 14, TTFT",
            "ours, prefill",
            "ours, TTFT",
            "prefill, s",
            "TTFT, s",
        ),
        tuple(rows),
        "Ours: the prefill by the machine's arithmetic; TTFT of one request on an idle 1P+1D whose device has "
        "forgotten the prefix, so that it is lifted from the store's DRAM. What the paper's TTFT has besides, ours "
        "has not: calls, tokenizing and scheduling take no time here.",
        (
            Chart(
                "long-prompts",
                "A prompt of 128,000 tokens with a cached prefix",
                (Panel("", "percent cached", "seconds", series),),
            ),
        ),
    )


def _asked(bench: Bench, cached: int) -> Record:
    """After a prompt with that prefix (or none of it), and one that has filled the device with something else."""
    prompt, other = tuple(range(BLOCKS)), tuple(range(BLOCKS, 2 * BLOCKS))
    before = prompt[:cached] if cached else tuple(range(2 * BLOCKS, 3 * BLOCKS))
    rows = [
        Row(1e6 * place, len(names) * BLOCK_TOKENS, 2, names) for place, names in enumerate((before, other, prompt))
    ]
    small = replace(bench.machine, device_tokens=bench.machine.max_model_len)
    return make(rows, bench.seed, Run(Spec(small, 1, 1))).records[-1]
