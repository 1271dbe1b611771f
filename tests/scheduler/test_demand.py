"""What a second of work costs those who come after."""

import numpy as np
import pytest

from scheduler.demand import HALF_LIFE_S, MOST_BUSY, OWN, SETTLED_S, Demand

FOUR = np.ones(4, dtype=bool)


def steady(per_s: float, work_s: float, *, until_s: float = 5 * HALF_LIFE_S, rows: int = 4) -> tuple[Demand, float]:
    """Placed in turn at so many workers. And the time of the last ask."""
    demand, now, turn = Demand(), 0.0, 0
    while now < until_s:
        demand.asked(now=now)
        demand.placed(turn % rows, work_s, now=now)
        now, turn = now + 1.0 / per_s, turn + 1
    return demand, now


@pytest.mark.parametrize("until_s", [SETTLED_S, HALF_LIFE_S, 10 * HALF_LIFE_S])
def test_it_is_the_rate_of_asks_over_the_share_of_time_that_is_left(until_s: float) -> None:
    demand, now = steady(20.0, 0.1, until_s=until_s)  # 5 a second and worker, which keep it half busy

    assert demand.pressure_per_s(FOUR, now=now) == pytest.approx([5.0 / 0.5] * 4, rel=0.05)


def test_before_anybody_asked_nobody_is_delayed() -> None:
    assert not Demand().pressure_per_s(np.ones(8, dtype=bool), now=3.0).any()


def test_one_ask_is_no_rush() -> None:
    demand = Demand()
    demand.asked(now=7.0)
    demand.placed(0, 0.0, now=7.0)

    assert demand.pressure_per_s(np.ones(1, dtype=bool), now=7.0) == pytest.approx([1.0 / SETTLED_S], rel=0.1)


def test_more_than_workers_can_do_counts_as_almost_all_that_they_can() -> None:
    demand, now = steady(20.0, 10.0)

    assert demand.pressure_per_s(FOUR, now=now) == pytest.approx([5.0 / (1.0 - MOST_BUSY)] * 4, rel=0.05)


def test_a_rush_is_forgotten() -> None:
    demand, now = steady(20.0, 0.1)
    rush = demand.pressure_per_s(FOUR, now=now)

    assert (demand.pressure_per_s(FOUR, now=now + 10 * HALF_LIFE_S) < rush / 1000).all()


def test_where_more_is_asked_for_more_are_delayed_and_half_of_that_is_expected_to_come_anywhere() -> None:
    """All 10 a second came to the first of two workers, and keep it busy for half of the time."""
    demand, now = steady(10.0, 0.05, rows=1)
    asked, idle = demand.pressure_per_s(np.array([True, True]), now=now)
    share = OWN + (1.0 - OWN) / 2

    assert asked == pytest.approx(10.0 * share / (1.0 - 0.5 * share), rel=0.05)
    assert idle == pytest.approx(10.0 * (1.0 - share) / (1.0 - 0.5 * (1.0 - share)), rel=0.05)


def test_who_does_not_prefill_is_asked_by_nobody() -> None:
    demand, now = steady(20.0, 0.1, rows=1)

    assert demand.pressure_per_s(np.array([True, False]), now=now)[1] == 0.0
    assert not demand.pressure_per_s(np.array([False, False]), now=now).any()
