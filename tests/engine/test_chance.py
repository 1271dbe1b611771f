"""The draw that sampling hangs on: a function of seed and position, evenly spread."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engine.chance import uniform

PINNED = [0.011546754286331562, 0.4082618259872465, 0.9975732587479782]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**20))
def test_a_draw_depends_on_seed_and_position_alone(seed: int, position: int) -> None:
    assert 0.0 <= uniform(seed, position) < 1.0
    assert uniform(seed, position) == uniform(seed, position)


def test_draws_are_what_they_were_in_every_process_and_version() -> None:
    """A stream that is resumed by a newer worker must go on as it would have."""
    assert [uniform(0, 0), uniform(1, 2), uniform(2**64 - 1, 131_071)] == PINNED


def test_draws_are_spread_evenly_over_positions_and_over_seeds() -> None:
    for draws in ([uniform(7, position) for position in range(4000)], [uniform(seed, 7) for seed in range(4000)]):
        counts = [sum(int(draw * 10) == tenth for draw in draws) for tenth in range(10)]
        assert min(counts) > 330
        assert max(counts) < 470


def test_neighbours_have_nothing_to_do_with_each_other() -> None:
    draws = [uniform(3, position) for position in range(4001)]
    products = [(one - 0.5) * (other - 0.5) for one, other in pairwise(draws)]
    assert abs(sum(products) / len(products)) < 0.005  # 1/12 if they were equal
