"""Who goes first, and when."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore import eviction
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


def test_a_use_that_is_told_late_takes_the_place_that_was_due_to_it() -> None:
    """A block that reached the disk some time after it was last used."""
    lru = policy(1, 2, 3)
    lru.used(4, 1)
    lru.used(5, 0)
    assert list(lru) == [1, 5, 2, 4, 3]
    assert order(lru) == [1, 5, 2, 4, 3]
    assert len(lru) == 0


def test_the_slot_used_least_often_goes_first_and_of_equals_the_oldest() -> None:
    lfu = eviction.policy("lfu")
    for stamp, slot in enumerate([1, 1, 2, 3, 3, 3, 4]):
        lfu.used(slot, stamp)
    assert order(lfu) == [2, 4, 1, 3]


def test_uses_are_counted_for_as_long_as_the_block_is_there() -> None:
    lfu = eviction.policy("lfu")
    for stamp, slot in enumerate([1, 1, 1, 2, 2]):
        lfu.used(slot, stamp)
    lfu.withdraw(1)
    lfu.used(1, 9, counted=False)
    assert lfu.victim() == 2, "1 was leased, not gone"
    lfu.forget(1)
    lfu.used(1, 10)
    assert lfu.victim() == 1, "another block, used once"


def test_to_be_touched_is_not_to_be_read() -> None:
    """A long answer is published block by block, and touches its whole prefix each time."""
    lfu = eviction.policy("lfu")
    for stamp, (slot, counted) in enumerate([(1, False), (1, False), (1, False), (2, True), (2, True)]):
        lfu.used(slot, stamp, 0, counted)
    assert order(lfu) == [1, 2]


def test_of_equally_frequent_blocks_length_aware_drops_the_deepest_first() -> None:
    aware = eviction.policy("length-aware")
    for stamp, (slot, depth) in enumerate([(10, 0), (11, 1), (12, 2), (20, 0), (21, 1), (10, 0)]):
        aware.used(slot, stamp, depth)
    assert order(aware) == [12, 11, 21, 20, 10]


def test_a_policy_has_a_name_and_others_are_refused() -> None:
    assert [type(eviction.policy(name)).__name__ for name in ("lru", "lfu", "length-aware")] == [
        "LeastRecentlyUsed",
        "LeastFrequentlyUsed",
        "LengthAware",
    ]
    with pytest.raises(ValueError, match="no eviction policy 'fifo'; choose from lru, lfu, length-aware"):
        eviction.policy("fifo")


RANKS: dict[str, Callable[[int, int, int], tuple[int, ...]]] = {
    "lru": lambda stamp, depth, uses: (stamp,),
    "lfu": lambda stamp, depth, uses: (uses, stamp),
    "length-aware": lambda stamp, depth, uses: (uses, -depth, stamp),
}
EVENTS = st.tuples(
    st.sampled_from(["used", "used", "touched", "late", "withdraw", "forget"]), st.integers(0, 7), st.integers(0, 3)
)


@pytest.mark.parametrize("name", RANKS)
@given(events=st.lists(EVENTS, max_size=150), spared=st.sets(st.integers(0, 7)))
def test_a_policy_keeps_the_order_that_sorting_anew_would_give(
    name: str, events: list[tuple[str, int, int]], spared: set[int]
) -> None:
    policy, rank = eviction.policy(name), RANKS[name]
    known: dict[int, tuple[int, int]] = {}  # slot -> stamp, depth
    uses: dict[int, int] = {}
    for stamp, (event, slot, depth) in enumerate(events, start=1):
        match event:
            case "withdraw":
                policy.withdraw(slot)
                known.pop(slot, None)
            case "forget":
                policy.forget(slot)
                known.pop(slot, None)
                uses.pop(slot, None)
            case _:
                when = 10 * stamp - 10 * 3 * (event == "late")
                uses[slot] = uses.get(slot, 0) + (event != "touched" or slot not in uses)
                known[slot] = when, depth
                policy.used(slot, when, depth, event != "touched")
        expected = sorted(known, key=lambda slot: (rank(*known[slot], uses[slot]), slot))
        stamps = [stamp for stamp, _ in known.values()]
        if len(set(stamps)) == len(stamps):
            assert list(policy) == expected
            assert policy.victim(spared) == next((slot for slot in expected if slot not in spared), None)
            for count in (0, 1, 3, 9):
                assert policy.victims(count, spared) == [slot for slot in expected if slot not in spared][:count]
        assert (len(policy), set(policy)) == (len(known), set(known))
        assert all(slot in policy for slot in known)


def test_watermarks_round_so_that_a_tiny_arena_is_used_to_its_last_slot() -> None:
    marks = Watermarks(0.02, 0.05)
    assert (marks.low_slots(16), marks.high_slots(16)) == (0, 1)
    assert (marks.low_slots(1000), marks.high_slots(1000)) == (20, 50)


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.4), (-0.1, 0.5), (0.5, 1.1)])
def test_watermarks_that_make_no_sense_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="watermarks need"):
        Watermarks(low, high)
