"""What one shared cache finds more than a cache in each node."""

from collections.abc import Callable
from random import Random

from kvstore.eviction import policy
from loadtest.reproduce.bench import PART, Bench, block_hit_rate
from loadtest.reproduce.replicas import NODES, replicated
from loadtest.reproduce.table import Cell, Chart, Panel, Series, Table
from loadtest.simulator.hits import hit_rate
from loadtest.traces import Row
from loadtest.traces.trace import BLOCK_TOKENS

PAPER = 2.22
"""FAST'25 Figure 10: how many times as much global caches find, conversation trace, 10 nodes of 3 million tokens."""

TOKENS = 3_000_000
CAPACITIES = (300_000, 600_000, 1_000_000, 2_000_000, TOKENS, 6_000_000, 12_000_000)
Dealt = Callable[[Row], int]


def local_vs_global(bench: Bench) -> Table:
    chance = Random(bench.seed)
    seats = {id(row): chance.randrange(NODES) for row in bench.rows}
    dealt: dict[str, Dealt] = {
        "at random": lambda row: seats[id(row)],
        "by conversation": lambda row: row.hash_ids[min(1, len(row.hash_ids) - 1)] % NODES,
    }
    shared = [_rate(bench.rows, NODES * tokens) for tokens in CAPACITIES]
    private = {name: [_private(bench.rows, to, tokens) for tokens in CAPACITIES] for name, to in dealt.items()}
    at = CAPACITIES.index(TOKENS)
    rows: list[tuple[Cell, ...]] = [
        (f"pools alone, requests dealt {name}", None, *_compared(rates[at], shared[at]))
        for name, rates in private.items()
    ]
    ours = [block_hit_rate(bench.run(replicated(bench.machine, name))) for name in ("local-cache", "kvcache-centric")]
    rows.append(("simulated, local-cache and kvcache-centric", PAPER, *_compared(*ours)))
    millions = tuple(tokens / 1e6 for tokens in CAPACITIES)
    series = [Series("one global cache", millions, tuple(shared))]
    series += [Series(f"local, dealt {name}", millions, tuple(rates)) for name, rates in private.items()]
    return Table(
        "local-vs-global",
        f"Hit rate of one global cache against a cache in each of {NODES} prefill nodes of 3 million tokens",
        ("how", "FAST'25 Fig. 10, times", "local", "global", "times"),
        tuple(rows),
        "The paper does not say how it dealt requests to nodes, and everything depends on that: dealt at random, local "
        "caches meet a conversation again once in ten; dealt by the block after the one that all share, whole "
        "conversations stay together and local caches lose only by being smaller, but nobody balances the load. The "
        f"simulated row is {NODES}P+{NODES}D and the first {PART:,} requests; there local-cache already goes to where "
        "most is cached.",
        (
            Chart(
                "local-vs-global",
                f"Hit rate of {NODES} nodes, caches shared or not",
                (Panel("", "million tokens per node", "hit rate, share of blocks", tuple(series), log_x=True),),
            ),
        ),
    )


def _rate(rows: list[Row], tokens: int) -> float:
    return round(hit_rate(rows, policy("lru"), tokens // BLOCK_TOKENS).block, 4)


def _private(rows: list[Row], to: Dealt, tokens: int) -> float:
    """Every node with what it is dealt, and ``tokens`` of cache."""
    hit = asked = 0.0
    for node in range(NODES):
        mine = [row for row in rows if to(row) == node]
        blocks = sum(len(row.hash_ids) for row in mine)
        if mine:
            hit += blocks * _rate(mine, tokens)
        asked += blocks
    return round(hit / asked, 4)


def _compared(local: float, everybody: float) -> tuple[float, float, float | None]:
    return local, everybody, round(everybody / local, 2) if local else None
