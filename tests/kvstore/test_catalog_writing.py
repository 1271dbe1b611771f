"""Granting, sealing and discarding: how a block comes to be held, once."""

import pytest

from kvstore.catalog import Catalog
from kvstore.vocabulary import Held, Refused, SessionId, SlotRef, Write, Writing
from tests.kvstore.builders import IDENTITY, LAYOUT, allocate, catalog, held, leased, names, put, seal, session


def test_what_is_granted_written_and_sealed_is_held() -> None:
    store = catalog(8)
    w = session(store)
    refs = allocate(store, w, "abc")
    assert (store.snapshot().writing, held(store, "abc")) == (3, "")
    seal(store, w, refs)
    assert (store.snapshot().sealed, held(store, "abc")) == (3, "abc")
    store.check()


def test_each_name_is_answered_in_its_place() -> None:
    store = catalog(4)
    w, v = session(store, "w"), session(store, "v")
    (a,) = put(store, w, "a")
    allocate(store, w, "ab")
    answers = store.allocate(v, names("abcde"), last_is_short=False, hold=True, now=0.0)
    assert answers[0] == Held(a.slot, a.generation)
    assert [type(answer) for answer in answers[1:]] == [Writing, Write, Write, Refused]
    store.check()


def test_a_name_that_is_given_twice_is_granted_once() -> None:
    store = catalog(4)
    answers = store.allocate(session(store), names("a") * 2, last_is_short=False, hold=False, now=0.0)
    assert [type(answer) for answer in answers] == [Write, Writing]


def test_two_who_want_to_write_one_name_do_not_both_write_it() -> None:
    store = catalog(8)
    w, v = session(store, "w"), session(store, "v")
    allocate(store, w, "a")
    assert store.allocate(v, names("a"), last_is_short=False, hold=False, now=0.0) == [Writing()]
    assert store.snapshot().writing == 1


def test_of_two_who_write_one_name_the_first_to_seal_wins() -> None:
    """The second can only have lost its connection meanwhile; what it seals late is refused."""
    store = catalog(8)
    lost, v = session(store, "lost"), session(store, "v")
    late = allocate(store, lost, "a")
    store.end(lost, dead=False)
    (first,) = put(store, v, "a")
    assert store.seal(lost, late, [7], now=0.0) == ([False], [])
    assert leased(store, v, "a") == [first]
    store.check()


def test_only_its_writer_seals_or_discards_a_block() -> None:
    store = catalog(8)
    w, v = session(store, "w"), session(store, "v")
    refs = allocate(store, w, "a")
    assert store.seal(v, refs, [1], now=0.0) == ([False], [])
    assert store.discard(v, refs) == []
    assert store.snapshot().writing == 1


def test_a_block_is_sealed_once() -> None:
    store = catalog(8)
    w = session(store)
    refs = allocate(store, w, "a")
    seal(store, w, refs)
    assert store.seal(w, refs, [1], now=0.0) == ([False], [])


def test_a_discarded_block_leaves_no_trace() -> None:
    store = catalog(8)
    w = session(store)
    refs = allocate(store, w, "ab", hold=True)
    assert store.discard(w, refs) == []
    assert store.seal(w, refs, [1, 2], now=0.0) == ([False, False], [])
    snapshot = store.snapshot()
    assert (snapshot.free, snapshot.writing, snapshot.sealed, snapshot.leases) == (8, 0, 0, 0)
    assert store.changes().gained == ()


def test_references_of_another_tenancy_seal_and_release_nothing() -> None:
    store = catalog(1)
    w = session(store)
    (old,) = allocate(store, w, "a")
    store.discard(w, [old])
    (new,) = allocate(store, w, "b")
    assert old.slot == new.slot
    assert store.seal(w, [old, SlotRef(99, 1), SlotRef(0, 0)], [1, 1, 1], now=0.0)[0] == [False] * 3
    seal(store, w, [new])
    assert leased(store, w, "b") == [new]
    store.release(w, [old, SlotRef(99, 1)])
    assert store.snapshot().leases == 1


def test_who_holds_gets_a_lease_on_what_is_held_and_on_each_block_as_it_is_sealed() -> None:
    store = catalog(8)
    w, v = session(store, "w"), session(store, "v")
    put(store, w, "a")
    refs = allocate(store, v, "abc", hold=True)
    assert store.snapshot().leases == 1
    seal(store, v, refs[1:])
    assert store.snapshot().leases == 3
    store.release(v, refs)
    assert store.snapshot().leases == 0
    store.check()


def test_without_hold_nothing_stays_leased() -> None:
    store = catalog(8)
    w = session(store)
    put(store, w, "ab")
    put(store, w, "abc")
    assert store.snapshot().leases == 0


def test_to_release_a_block_while_writing_it_is_to_give_up_its_hold() -> None:
    store = catalog(8)
    w = session(store)
    refs = allocate(store, w, "ab", hold=True)
    store.release(w, refs[:1])
    seal(store, w, refs)
    assert store.snapshot().leases == 1
    assert held(store, "ab") == "ab"
    store.check()


def test_a_short_block_is_dropped_with_its_last_lease() -> None:
    store = catalog(8)
    w, v = session(store, "w"), session(store, "v")
    refs = put(store, w, "abc", hold=True, short=True)
    taken = leased(store, v, "abc")
    assert taken == refs
    store.release(w, refs)
    assert store.snapshot().sealed == 3, "v still reads it"
    store.release(v, taken)
    assert store.snapshot().sealed == 2
    assert leased(store, v, "abc") == refs[:2]
    store.check()


def test_a_short_block_that_nobody_holds_or_waits_for_is_dropped_at_once() -> None:
    store = catalog(8)
    w = session(store)
    put(store, w, "ab", short=True)
    assert store.snapshot().sealed == 1
    store.check()


def test_a_short_block_that_somebody_waits_for_is_handed_over_and_then_dropped() -> None:
    store = catalog(8)
    w, v = session(store, "w"), session(store, "v")
    refs = allocate(store, w, "ab", short=True)
    assert store.acquire(v, 1, names("ab"), deadline=9.0, now=0.0, handoff=True) == []
    (answer,) = seal(store, w, refs)
    assert [lease.ref for lease in answer.leases] == refs
    assert answer.done
    store.release(v, answer.leases)
    assert store.snapshot().sealed == 1
    store.check()


def test_short_blocks_are_never_reported() -> None:
    store = catalog(8)
    w = session(store)
    refs = put(store, w, "ab", hold=True, short=True)
    assert store.changes().gained == tuple(names("a"))
    assert store.held_names() == names("a")
    store.release(w, refs)
    assert store.changes().lost == ()


def test_a_store_that_keeps_nothing_hands_over_and_drops_every_block() -> None:
    store = Catalog(low_watermark=0.0, high_watermark=0.0, keeps=False)
    store.adopt(IDENTITY, LAYOUT, 8)
    w, v = session(store, "w"), session(store, "v")
    refs = put(store, w, "abc", hold=True)
    assert leased(store, v, "abc") == refs
    store.release(w, refs)
    assert store.snapshot().sealed == 3, "they are the reader's"
    store.release(v, refs)
    assert store.snapshot().free == 8
    assert not store.changes().gained
    store.check()


def test_a_store_that_keeps_nothing_refuses_what_nobody_would_hold_on_to() -> None:
    store = Catalog(low_watermark=0.0, high_watermark=0.0, keeps=False)
    store.adopt(IDENTITY, LAYOUT, 8)
    w = session(store)
    assert store.allocate(w, names("ab"), last_is_short=False, hold=False, now=0.0) == [Refused(), Refused()]


def test_changes_are_what_is_different_since_last_asked() -> None:
    store = catalog(8)
    w = session(store)
    put(store, w, "ab")
    assert store.changes().gained == tuple(names("ab"))
    assert store.changes() == type(store.changes())((), ())
    store.reset()
    put(store, w, "ac")
    changes = store.changes()
    assert changes.gained == (names("ac")[1],), "a was lost and gained again: nothing to tell"
    assert changes.lost == (names("ab")[1],)


def test_what_was_gained_and_lost_between_two_questions_is_not_told() -> None:
    store = catalog(8)
    put(store, session(store), "ab")
    assert store.reset() == 2
    changes = store.changes()
    assert (changes.gained, changes.lost) == ((), ())


def test_reset_drops_what_nobody_leases_or_writes() -> None:
    store = catalog(8)
    w = session(store)
    put(store, w, "abc")
    kept = leased(store, w, "a")
    writing = allocate(store, w, "x")
    assert store.reset() == 2
    assert held(store, "abc") == "a"
    seal(store, w, writing)
    store.release(w, kept)
    store.check()


def test_the_oldest_write_tells_of_somebody_who_does_not_finish() -> None:
    store = catalog(8)
    w = session(store)
    assert store.snapshot().oldest_write is None
    (first,) = store.allocate(w, names("a"), last_is_short=False, hold=False, now=5.0)
    store.allocate(w, names("b"), last_is_short=False, hold=False, now=6.0)
    assert store.snapshot().oldest_write == 5.0
    assert isinstance(first, Write)
    seal(store, w, [first])
    assert store.snapshot().oldest_write == 6.0


def test_a_store_that_serves_nobody_yet_holds_nothing() -> None:
    store = Catalog()
    assert store.identity is None
    assert store.snapshot().total == 0
    assert (store.reset(), store.tick(now=1.0), store.next_deadline, store.held_names()) == (0, [], None, [])
    nobody = SessionId("nobody")
    assert store.allocate(nobody, names("a"), last_is_short=False, hold=False, now=0.0) == [Refused()]
    store.check()


def test_an_arena_without_room_for_one_block_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="no room for a single block of 8192 bytes"):
        Catalog().adopt(IDENTITY, LAYOUT, 0)
