"""When work that is still to come could begin: a pool of queues filled like water, and a pool of decodes."""

from itertools import pairwise
from math import inf, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.waits import Levels, Room, room

queues = st.lists(st.floats(0, 100), min_size=1, max_size=8)


def after(waits: list[float], *work_s: float) -> list[float]:
    levels: list[float] = Levels(np.array(waits)).after(np.array(work_s)).tolist()
    return levels


def test_one_queue_is_longer_by_what_comes() -> None:
    assert after([2.0], 0.0, 1.0, 5.0) == [2.0, 3.0, 7.0]


def test_what_comes_goes_to_the_shortest_queue() -> None:
    assert after([4.0, 1.0], 0.0, 2.0, 3.0, 5.0) == [1.0, 3.0, 4.0, 5.0]


def test_queues_of_the_same_length_are_filled_together() -> None:
    assert after([1.0, 1.0, 9.0], 4.0) == [3.0]


@given(queues, st.lists(st.floats(0, 1000), min_size=1, max_size=5))
def test_the_work_that_makes_a_level_is_what_was_poured(waits: list[float], work_s: list[float]) -> None:
    for level, poured in zip(after(waits, *work_s), work_s, strict=True):
        assert sum(max(0.0, level - each) for each in waits) == pytest.approx(poured, abs=1e-6)


@given(queues, st.lists(st.floats(0, 1000), min_size=2, max_size=5))
def test_more_work_is_a_higher_level(waits: list[float], work_s: list[float]) -> None:
    levels = after(waits, *sorted(work_s))
    assert all(one <= other + 1e-9 for one, other in pairwise(levels))


def pool(*there: float, seats: float = 10.0, kv: float = 0.0, capacity: float = 1e6, tpot_s: float = inf) -> Room:
    number = np.array(there)
    whole = np.ones_like(number)
    return room(
        np.ones(len(there), bool),
        sequences=number,
        kv_tokens=kv * whole,
        seats=seats * whole,
        capacity=capacity * whole,
        step_s=(0.01 * whole, 0.001 * whole, 0.0 * whole),
        tokens=100.0,
        kv_needed=200.0,
        tpot_s=tpot_s,
        lasts_s=20.0,
    )


@pytest.mark.parametrize(
    ("limits", "fit"),
    [({}, 10.0), ({"capacity": 1000.0}, 5.0), ({"tpot_s": 0.013}, 3.0), ({"tpot_s": 0.005}, 0.0)],
)
def test_what_fits_is_bounded_by_seats_by_kv_and_by_the_pace(limits: dict[str, float], fit: float) -> None:
    found = pool(0.0, **limits)

    assert found.most.tolist() == pytest.approx([fit])


def test_a_request_takes_its_part_of_the_time_of_the_whole_pool() -> None:
    found = pool(0.0, 0.0)

    assert found.each_s == 20.0 / 20


def test_a_pool_with_room_is_ahead_by_what_still_fits() -> None:
    found = pool(8.0, 10.0)

    assert found.level_s == -2 * 20.0 / 20


def test_a_full_pool_has_room_again_when_one_has_left() -> None:
    found = pool(10.0, 12.0)

    assert found.level_s + found.each_s == pytest.approx(20.0 * log(10 / 9))
