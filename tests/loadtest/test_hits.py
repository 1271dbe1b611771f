"""What caches of several sizes would have held of a trace."""

import pytest

from kvstore.eviction import LeastRecentlyUsed
from loadtest.simulator.hits import hit_rate
from loadtest.traces import Row, conversation
from tests.loadtest.build import chance, published

MEASURED = {1_000: 0.0445, 3_000: 0.065, 10_000: 0.211, 30_000: 0.326, 50_000: 0.355, 100_000: 0.364}
"""LRU on the published conversation trace, block-weighted; and without bound 0.3664, token-weighted 0.3736."""


def row(*names: int) -> Row:
    return Row(0.0, 512 * len(names), 1, names)


def test_only_a_prefix_without_a_gap_is_a_hit() -> None:
    rate = hit_rate([row(0, 1, 2), row(0, 7, 2)], LeastRecentlyUsed(), None)

    assert rate.block == 1 / 6


def test_a_partial_block_counts_with_its_tokens() -> None:
    twice = [Row(0.0, 600, 1, (0, 1)), Row(0.0, 600, 1, (0, 1))]

    assert hit_rate(twice, LeastRecentlyUsed(), None).token == 0.5


def test_a_full_pool_forgets_what_was_used_longest_ago() -> None:
    rows = [row(0), row(1), row(0), row(2), row(0), row(1)]

    assert hit_rate(rows, LeastRecentlyUsed(), 2).block == 2 / 6


def test_leaf_first_keeps_heads_where_a_prompt_is_longer_than_the_pool() -> None:
    rows = [row(0, 1, 2), row(0, 1, 2)]

    assert hit_rate(rows, LeastRecentlyUsed(), 2).block == 0.0
    assert hit_rate(rows, LeastRecentlyUsed(), 2, leaf_first=True).block == 2 / 6


@pytest.mark.parametrize("blocks", MEASURED)
def test_the_published_trace_hits_as_measured(blocks: int) -> None:
    rate = hit_rate(published(), LeastRecentlyUsed(), blocks)

    assert round(rate.block, 3) == pytest.approx(MEASURED[blocks], abs=0.0006)


def test_without_bound_the_published_trace_hits_as_measured() -> None:
    rate = hit_rate(published(), LeastRecentlyUsed(), None)

    assert (round(rate.block, 4), round(rate.token, 4)) == (0.3664, 0.3736)


def test_the_built_in_trace_hits_about_as_often() -> None:
    rows = conversation(chance())

    for blocks in (3_000, 30_000):
        assert hit_rate(rows, LeastRecentlyUsed(), blocks).block == pytest.approx(MEASURED[blocks], abs=0.03)
