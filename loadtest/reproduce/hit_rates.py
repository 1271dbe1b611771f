"""Cache hit rate against capacity and eviction policy, one pool."""

from kvstore.eviction import POLICIES, policy
from loadtest.reproduce.bench import Bench
from loadtest.reproduce.table import Cell, Chart, Panel, Series, Table
from loadtest.simulator.hits import hit_rate

CAPACITIES: dict[int | None, float] = {
    1_000: 0.0445, 3_000: 0.065, 10_000: 0.211, 30_000: 0.326, 50_000: 0.355, 100_000: 0.364, None: 0.3664,
}  # fmt: skip
"""Blocks, and LRU's hit rate as it was measured on the published conversation trace."""


def hit_rates(bench: Bench) -> Table:
    rows: list[tuple[Cell, ...]] = []
    rates: dict[str, list[float]] = {name: [] for name in POLICIES}
    for blocks, measured in CAPACITIES.items():
        for name, found in rates.items():
            found.append(round(hit_rate(bench.rows, policy(name), blocks).block, 4))
        rows.append((blocks or "no bound", measured, *(found[-1] for found in rates.values())))
    blocks_known = tuple(float(blocks) for blocks in CAPACITIES if blocks is not None)
    series = [Series(name, blocks_known, tuple(found[:-1])) for name, found in rates.items()]
    series.append(Series("LRU, measured independently", blocks_known, tuple(CAPACITIES.values())[:-1], paper=True))
    return Table(
        "hit-rates",
        "Hit rate against capacity and eviction policy: one pool, cold start, in blocks of 512 tokens",
        ("capacity, blocks", "measured, LRU", *(f"ours, {name}" for name in POLICIES)),
        tuple(rows),
        "Measured independently on the published trace, not a figure of the papers; those say only that LRU was best "
        "on theirs (arXiv 2407.00079, section 4.2).",
        (
            Chart(
                "hit-rates",
                "Hit rate of one pool by eviction policy",
                (Panel("", "capacity, blocks of 512 tokens", "hit rate, share of blocks", tuple(series), log_x=True),),
            ),
        ),
    )
