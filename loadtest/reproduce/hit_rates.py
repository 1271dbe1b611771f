"""Cache hit rate against capacity and eviction policy, one pool."""

from kvstore.eviction import POLICIES, policy
from loadtest.reproduce.bench import Bench, Table
from loadtest.simulator.hits import hit_rate

CAPACITIES: dict[int | None, float] = {
    1_000: 0.0445, 3_000: 0.065, 10_000: 0.211, 30_000: 0.326, 50_000: 0.355, 100_000: 0.364, None: 0.3664,
}  # fmt: skip
"""Blocks, and LRU's hit rate as it was measured on the published conversation trace."""


def hit_rates(bench: Bench) -> Table:
    rows = []
    for blocks, measured in CAPACITIES.items():
        found = [round(hit_rate(bench.rows, policy(name), blocks).block, 4) for name in POLICIES]
        rows.append((blocks if blocks is not None else "no bound", measured, *found))
    return Table(
        "hit-rates",
        "Hit rate against capacity and eviction policy: one pool, cold start, in blocks of 512 tokens",
        ("capacity, blocks", "measured, LRU", *(f"ours, {name}" for name in POLICIES)),
        tuple(rows),
        "Measured independently on the published trace, not a figure of the papers; those say only that LRU was best "
        "on theirs (arXiv 2407.00079, section 4.2).",
    )
