"""What a second of work costs those who come after."""

import pytest

from scheduler.demand import HALF_LIFE_S, MOST_BUSY, SETTLED_S, Demand


def steady(per_s: float, work_s: float, *, until_s: float = 5 * HALF_LIFE_S) -> tuple[Demand, float]:
    """And the time of the last ask."""
    demand, now = Demand(), 0.0
    while now < until_s:
        demand.asked(now=now)
        demand.placed(work_s, now=now)
        now += 1.0 / per_s
    return demand, now


@pytest.mark.parametrize("until_s", [SETTLED_S, HALF_LIFE_S, 10 * HALF_LIFE_S])
def test_it_is_the_rate_of_asks_over_the_share_of_time_that_is_left(until_s: float) -> None:
    demand, now = steady(20.0, 0.1, until_s=until_s)  # 5 a second and worker, which keep it half busy

    assert demand.pressure_per_s(4, now=now) == pytest.approx(5.0 / 0.5, rel=0.05)


def test_before_anybody_asked_nobody_is_delayed() -> None:
    assert Demand().pressure_per_s(8, now=3.0) == 0.0


def test_one_ask_is_no_rush() -> None:
    demand = Demand()
    demand.asked(now=7.0)

    assert demand.pressure_per_s(1, now=7.0) == pytest.approx(1.0 / SETTLED_S, rel=0.1)


def test_more_than_workers_can_do_counts_as_almost_all_that_they_can() -> None:
    demand, now = steady(20.0, 10.0)

    assert demand.pressure_per_s(4, now=now) == pytest.approx(5.0 / (1.0 - MOST_BUSY), rel=0.05)


def test_a_rush_is_forgotten() -> None:
    demand, now = steady(20.0, 0.1)
    rush = demand.pressure_per_s(4, now=now)

    assert demand.pressure_per_s(4, now=now + 10 * HALF_LIFE_S) < rush / 1000
