"""Arrivals as vllm bench serve plans them: the rate that is offered is the rate that was asked for."""

from itertools import pairwise
from math import inf
from statistics import mean, pstdev

import pytest

from loadtest.workload import ramps
from loadtest.workload.arrivals import planned
from loadtest.workload.ramps import Ramp, Strategy
from tests.loadtest.build import chance


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 100.0])
@pytest.mark.parametrize(("number", "rate_per_s"), [(1, 3.0), (7, 0.5), (6000, 200.0)])
def test_n_requests_take_exactly_n_by_the_rate(number: int, rate_per_s: float, burstiness: float) -> None:
    found = planned(number, rate_per_s, burstiness, chance())

    assert len(found) == number
    assert found == sorted(found)
    assert found[-1] == pytest.approx(number / rate_per_s, rel=1e-12)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gaps_vary_as_the_gamma_of_that_shape(burstiness: float) -> None:
    gaps = [later - earlier for earlier, later in pairwise(planned(20_000, 10.0, burstiness, chance()))]

    assert pstdev(gaps) / mean(gaps) == pytest.approx(burstiness**-0.5, rel=0.06)


def test_endless_burstiness_is_none() -> None:
    assert planned(4, 2.0, inf, chance()) == [0.5, 1.0, 1.5, 2.0]
    assert ramps.planned(3, Ramp(Strategy.LINEAR, 1.0, 4.0), inf, chance()) == pytest.approx([1.0, 1.4, 1.65])


def test_an_endless_rate_is_all_at_once() -> None:
    assert planned(3, inf, 1.0, chance()) == [0.0, 0.0, 0.0]


def test_burstiness_is_above_0() -> None:
    with pytest.raises(ValueError, match="burstiness is above 0"):
        planned(3, 1.0, 0.0, chance())
    with pytest.raises(ValueError, match="burstiness is above 0"):
        ramps.planned(3, Ramp(Strategy.LINEAR, 1.0, 2.0), 0.0, chance())


@pytest.mark.parametrize(("strategy", "middle"), [(Strategy.LINEAR, 5.0), (Strategy.EXPONENTIAL, 3.0)])
def test_a_ramp_goes_from_its_start_to_its_end(strategy: Strategy, middle: float) -> None:
    ramp = Ramp(strategy, 1.0, 9.0)

    assert [ramp.rate_per_s(progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([1.0, middle, 9.0])


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize(("start", "end"), [(1.0, 10.0), (20.0, 2.0), (5.0, 5.0)])
def test_a_ramp_of_a_duration_takes_about_so_long(strategy: Strategy, start: float, end: float) -> None:
    ramp = Ramp(strategy, start, end)
    regular = ramps.planned(ramp.number(600.0), ramp, 1e6, chance())  # gaps that hardly vary

    assert regular[-1] == pytest.approx(600.0, rel=0.01)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, inf])
@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_ramp_takes_what_regular_gaps_would(strategy: Strategy, burstiness: float) -> None:
    ramp = Ramp(strategy, 2.0, 20.0)
    found = ramps.planned(400, ramp, burstiness, chance())

    assert found == sorted(found)
    assert found[-1] == pytest.approx(sum(1.0 / ramp.rate_per_s(place / 399) for place in range(400)), rel=1e-12)


def test_arrivals_of_a_rising_ramp_come_faster_and_faster() -> None:
    found = ramps.planned(3000, Ramp(Strategy.LINEAR, 1.0, 10.0), 1.0, chance())
    gaps = [later - earlier for earlier, later in pairwise(found)]

    assert mean(gaps[:100]) == pytest.approx(1.0, rel=0.25)
    assert mean(gaps[-300:]) == pytest.approx(0.1, rel=0.25)


def test_a_ramp_is_between_rates_above_0() -> None:
    with pytest.raises(ValueError, match=r"a ramp goes between rates above 0, not from 0\.0 to 2\.0"):
        Ramp(Strategy.LINEAR, 0.0, 2.0)
