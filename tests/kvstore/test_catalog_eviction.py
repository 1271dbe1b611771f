"""Room is made from what was not used for longest, tails before heads, and never from what is in use."""

from collections.abc import Container

from hypothesis import given
from hypothesis import strategies as st

from kvstore.catalog import Catalog
from kvstore.eviction import LeastRecentlyUsed, policy
from kvstore.vocabulary import Drop, Held, Refused, SessionId, SlotRef, Write
from tests.kvstore.builders import (
    IDENTITY,
    LAYOUT,
    allocate,
    carry_out,
    catalog,
    held,
    leased,
    names,
    put,
    seal,
    session,
)


def test_the_prefix_used_longest_ago_goes_first() -> None:
    store = catalog(4)
    w = session(store)
    put(store, w, "ab")
    put(store, w, "xy")
    store.release(w, leased(store, w, "ab"))
    put(store, w, "pq")
    assert (held(store, "ab"), held(store, "xy"), held(store, "pq")) == ("ab", "", "pq")
    assert store.snapshot().evicted == 2
    store.check()


def test_a_prefix_loses_its_tail_before_its_head() -> None:
    store = catalog(5)
    w = session(store)
    put(store, w, "abcd")
    put(store, w, "xy")
    assert held(store, "abcd") == "abc"
    put(store, w, "pq")
    assert held(store, "abcd") == "a"


def test_a_prefix_that_was_sealed_piece_by_piece_still_loses_its_tail_first() -> None:
    store = catalog(6)
    w = session(store)
    for text in ("ab", "abcd", "abcdef"):
        put(store, w, text)
    for letter in "xyz":
        put(store, w, letter)
    assert held(store, "abcdef") == "abc"


def test_one_name_in_front_is_enough_to_say_what_new_blocks_follow() -> None:
    store = catalog(4)
    w = session(store)
    put(store, w, "ab")
    answers = store.allocate(w, names("abcd")[1:], last_is_short=False, hold=False, now=0.0)
    assert isinstance(answers[0], Held)
    seal(store, w, [answer for answer in answers if isinstance(answer, Write)])
    for letter in "xyz":
        put(store, w, letter)
    assert held(store, "abcd") == "a"


def test_to_read_a_tail_is_to_use_its_head_too() -> None:
    """A worker that has the head on its device leases only the rest."""
    store = catalog(6)
    w = session(store)
    put(store, w, "abc")
    put(store, w, "xyz")
    (answer,) = store.acquire(w, 1, names("abc")[2:], deadline=0.0, now=0.0)
    store.release(w, answer.leases)
    put(store, w, "123")
    assert (held(store, "abc"), held(store, "xyz")) == ("abc", "")


def test_whoever_names_a_whole_prefix_tells_what_follows_what() -> None:
    """Its pieces were sealed by workers that did not say what they follow."""
    for tell in ("acquire", "allocate"):
        store = catalog(7)
        w = session(store)
        for piece in (names("abcd")[:2], names("abcd")[2:]):
            grants = store.allocate(w, piece, last_is_short=False, hold=False, now=0.0)
            seal(store, w, [grant for grant in grants if isinstance(grant, Write)])
        if tell == "acquire":
            store.release(w, leased(store, w, "abcd"))
        else:
            allocate(store, w, "abcd")
        put(store, w, "xyz")
        (answer,) = store.acquire(w, 1, names("abcd")[3:], deadline=0.0, now=0.0)
        store.release(w, answer.leases)
        put(store, w, "123")
        assert (held(store, "abcd"), held(store, "xyz")) == ("abcd", "")


def test_a_head_that_many_share_outlives_their_tails() -> None:
    store = catalog(9)
    w = session(store)
    for tail in ("bcd", "efg"):
        put(store, w, "a" + tail)
    put(store, w, "12345678")
    assert held(store, "a") == "a"
    assert held(store, "abcd") == "a"


def test_what_is_leased_or_half_written_is_never_evicted() -> None:
    store = catalog(3)
    w = session(store)
    put(store, w, "ab")
    kept = leased(store, w, "a")
    allocate(store, w, "x")
    answers = store.allocate(w, names("pqr"), last_is_short=False, hold=False, now=0.0)
    assert [type(answer) for answer in answers] == [Write, Refused, Refused]
    assert held(store, "ab") == "a"
    store.release(w, kept)
    store.check()


def test_a_call_never_evicts_what_it_names_itself() -> None:
    store = catalog(2)
    w = session(store)
    put(store, w, "ab")
    answers = store.allocate(w, names("abcd"), last_is_short=False, hold=False, now=0.0)
    assert [type(answer) for answer in answers] == [Held, Held, Refused, Refused]
    assert held(store, "ab") == "ab"


def test_without_watermarks_nothing_is_evicted_before_the_arena_is_full() -> None:
    store = catalog(4)
    w = session(store)
    put(store, w, "abcd")
    assert store.snapshot().free == 0
    assert held(store, "abcd") == "abcd"


def test_below_the_low_watermark_room_is_made_up_to_the_high_one() -> None:
    store = catalog(20, low=0.2, high=0.4)
    w = session(store)
    put(store, w, "abcdefghijklmnop")
    carry_out(store)
    assert store.snapshot().free == 4, "low is 4: not below it"
    put(store, w, "xyz")
    carry_out(store)
    assert store.snapshot().free == 7, "one below it, and two for each of the three granted"
    put(store, w, "12")
    carry_out(store)
    assert store.snapshot().free == 8, "high is 8: no further"
    put(store, w, "345")
    carry_out(store)
    assert store.snapshot().free == 5, "not below low: nothing is evicted"
    store.check()


def test_drops_are_moves_of_whoever_goes_next_and_change_nothing_until_they_are_carried_out() -> None:
    store = catalog(8, low=0.5, high=1.0)
    w = session(store)
    blocks = list(zip(names("abcde"), put(store, w, "abcde"), strict=True))
    drops = store.moves(now=0.0)
    assert drops == [Drop(name, SlotRef(ref.slot, ref.generation)) for name, ref in reversed(blocks)]
    assert held(store, "abcde") == "abcde"
    for drop in drops[:2]:
        assert isinstance(drop, Drop)
        store.dropped(drop)
    assert (held(store, "abcde"), store.snapshot().evicted) == ("abc", 2)
    store.check()


def test_a_drop_is_called_off_where_somebody_has_leased_the_block_since() -> None:
    store = catalog(4, low=0.5, high=1.0)
    w = session(store)
    put(store, w, "abc")
    drops = store.moves(now=0.0)
    kept = leased(store, w, "abc")
    for drop in drops:
        assert isinstance(drop, Drop)
        store.dropped(drop)
    assert (held(store, "abc"), store.snapshot().evicted) == ("abc", 0)
    store.release(w, kept)
    store.check()


def test_a_drop_of_a_block_that_is_gone_does_not_touch_the_next_one_in_its_slot() -> None:
    store = catalog(1, low=1.0, high=1.0)
    w = session(store)
    put(store, w, "a")
    (drop,) = store.moves(now=0.0)
    assert isinstance(drop, Drop)
    put(store, w, "x")
    store.dropped(drop)
    assert held(store, "x") == "x"
    store.dropped(drop)
    store.check()


def test_nothing_is_dropped_ahead_of_need_when_everything_left_is_in_use() -> None:
    store = catalog(4, low=0.5, high=1.0)
    w = session(store)
    put(store, w, "ab", hold=True)
    put(store, w, "cd", hold=True)
    assert store.moves(now=0.0) == []
    assert (store.snapshot().free, held(store, "ab")) == (0, "ab")
    store.check()


def test_a_policy_can_be_brought_along() -> None:
    class Newest(LeastRecentlyUsed):
        def victim(self, spared: Container[int] = ()) -> int | None:
            return next((slot for slot in reversed(list(self)) if slot not in spared), None)

    store = Catalog(low_watermark=0.0, high_watermark=0.0, policy=Newest())
    store.adopt(IDENTITY, LAYOUT, 2)
    w = session(store)
    put(store, w, "a")
    put(store, w, "b")
    put(store, w, "c")
    assert (held(store, "a"), held(store, "b"), held(store, "c")) == ("a", "", "c")


def reading(name: str, slots: int) -> tuple[Catalog, SessionId]:
    store = Catalog(low_watermark=0.0, high_watermark=0.0, policy=policy(name))
    store.adopt(IDENTITY, LAYOUT, slots)
    return store, session(store)


def test_under_lfu_what_is_read_often_outlives_what_is_new() -> None:
    survivors = {}
    for name in ("lru", "lfu"):
        store, w = reading(name, 4)
        put(store, w, "ab")
        for _ in range(3):
            store.release(w, leased(store, w, "ab"))
        for letter in "wxyz":
            put(store, w, letter)
        survivors[name] = held(store, "ab")
    assert survivors == {"lru": "", "lfu": "ab"}


def test_under_lfu_a_long_answer_does_not_make_its_prompt_look_popular() -> None:
    store, w = reading("lfu", 8)
    put(store, w, "x")
    store.release(w, leased(store, w, "x"))
    for length in range(1, 7):
        put(store, w, "abcdef"[:length])
    put(store, w, "12")
    assert (held(store, "x"), held(store, "abcdef")) == ("x", "abcde")


def test_length_aware_eviction_drops_the_deepest_block_whoever_was_last() -> None:
    survivors = {}
    for name in ("lfu", "length-aware"):
        store, w = reading(name, 6)
        put(store, w, "x")
        put(store, w, "abcde")
        put(store, w, "y")
        survivors[name] = held(store, "x"), held(store, "abcde")
    assert survivors == {"lfu": ("", "abcde"), "length-aware": ("x", "abcd")}


@given(st.lists(st.integers(0, 9), max_size=60))
def test_single_blocks_are_evicted_exactly_least_recently_used_first(uses: list[int]) -> None:
    store, order = catalog(4), list[int]()
    w = session(store)
    for use in uses:
        put(store, w, str(use))
        order = [*[block for block in order if block != use][-3:], use]
        assert [block for block in range(10) if held(store, str(block))] == sorted(order)
    store.check()
