"""Who goes first, and when."""

import pytest

from kvstore.eviction import EvictionPolicy, LeastRecentlyUsed, Watermarks


def order(policy: EvictionPolicy) -> list[int]:
    victims = []
    while (victim := policy.victim()) is not None:
        policy.withdraw(victim)
        victims.append(victim)
    return victims


def policy(*slots: int) -> LeastRecentlyUsed:
    lru = LeastRecentlyUsed()
    for stamp, slot in enumerate(slots):
        lru.used(slot, stamp)
    return lru


def test_the_slot_used_longest_ago_goes_first() -> None:
    assert order(policy(3, 1, 2, 3)) == [1, 2, 3]


def test_a_withdrawn_slot_is_no_candidate_and_comes_back_as_the_youngest() -> None:
    lru = policy(1, 2, 3)
    lru.withdraw(1)
    assert 1 not in lru
    assert len(lru) == 2
    lru.used(1, 9)
    assert order(lru) == [2, 3, 1]


def test_a_victim_stays_a_candidate_until_it_is_withdrawn() -> None:
    lru = policy(1)
    assert lru.victim() == lru.victim() == 1


def test_withdrawing_who_is_no_candidate_is_fine() -> None:
    policy().withdraw(5)


def test_watermarks_round_so_that_a_tiny_arena_is_used_to_its_last_slot() -> None:
    marks = Watermarks(0.02, 0.05)
    assert (marks.low_slots(16), marks.high_slots(16)) == (0, 1)
    assert (marks.low_slots(1000), marks.high_slots(1000)) == (20, 50)


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.4), (-0.1, 0.5), (0.5, 1.1)])
def test_watermarks_that_make_no_sense_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="watermarks need"):
        Watermarks(low, high)
