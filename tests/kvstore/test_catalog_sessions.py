"""Whatever a session holds ends with it, and not before nobody can be copying any more."""

from dataclasses import replace

import pytest

from kvstore.catalog import Catalog
from kvstore.vocabulary import Answer, IdentityMismatch, Refused, SessionId, Write
from tests.kvstore.builders import IDENTITY, allocate, catalog, held, leased, names, put, seal, session


def busy_session(store: Catalog) -> SessionId:
    """It has sealed a and b, writes c and d, and leases a twice and b once."""
    busy = session(store, "busy")
    put(store, busy, "ab", hold=True)
    leased(store, busy, "a")
    allocate(store, busy, "abcd")
    return busy


def test_a_session_that_dies_leaves_what_it_sealed_and_nothing_else() -> None:
    store = catalog(8)
    assert store.end(busy_session(store), dead=True) == []
    snapshot = store.snapshot()
    assert (snapshot.free, snapshot.writing, snapshot.sealed, snapshot.leases) == (6, 0, 2, 0)
    assert (snapshot.sessions, snapshot.set_aside) == ((), ())
    assert held(store, "abcd") == "ab"
    store.check()


def test_a_session_whose_worker_may_live_is_set_aside_with_all_it_has() -> None:
    store = catalog(8)
    busy = busy_session(store)
    store.end(busy, dead=False)
    snapshot = store.snapshot()
    assert (snapshot.writing, snapshot.sealed, snapshot.leases) == (2, 2, 3)
    assert (snapshot.sessions, snapshot.set_aside, store.set_aside) == ((), ("busy",), (busy,))
    store.check()


def test_what_was_set_aside_is_freed_once_its_worker_is_buried() -> None:
    store = catalog(8)
    busy = busy_session(store)
    store.end(busy, dead=False)
    store.buried(busy)
    snapshot = store.snapshot()
    assert (snapshot.free, snapshot.writing, snapshot.sealed, snapshot.leases) == (6, 0, 2, 0)
    assert store.set_aside == ()
    store.buried(busy)
    store.check()


def test_what_was_set_aside_is_freed_once_its_worker_says_hello_again() -> None:
    store = catalog(8)
    store.end(busy_session(store), dead=False)
    session(store, "busy", name="busy again")
    snapshot = store.snapshot()
    assert (snapshot.writing, snapshot.leases, snapshot.set_aside) == (0, 0, ())
    assert snapshot.sessions == ("busy",)
    store.check()


def test_another_process_of_the_same_name_does_not_free_what_a_hung_one_may_still_write() -> None:
    store = catalog(8)
    busy = busy_session(store)
    store.end(busy, dead=False)
    session(store, "busy", incarnation=2, name="its successor")
    assert store.set_aside == (busy,)
    assert store.snapshot().writing == 2
    store.buried(busy)
    assert store.snapshot().writing == 0
    store.check()


def test_a_session_that_is_replaced_before_its_end_was_noticed_ends_and_its_readers_are_told() -> None:
    for incarnation in (1, 2):
        store = catalog(8)
        busy, reader = busy_session(store), session(store, "reader")
        store.acquire(reader, 5, names("abc"), deadline=9.0, now=0.0, handoff=True)
        answers = store.hello(SessionId("new"), worker="busy", incarnation=incarnation, identity=IDENTITY)
        assert answers == [Answer(reader, 5, (), done=True)]
        assert store.end(busy, dead=True) == []
        assert store.snapshot().writing == 0
        store.check()


def test_a_session_that_holds_nothing_is_not_set_aside() -> None:
    store = catalog(8)
    idle = session(store, "idle")
    put(store, idle, "a")
    store.end(idle, dead=False)
    assert store.set_aside == ()


def test_a_name_whose_writer_was_set_aside_can_be_written_by_another() -> None:
    store = catalog(8)
    busy, other = busy_session(store), session(store, "other")
    store.end(busy, dead=False)
    answers = store.allocate(other, names("abcd"), last_is_short=False, hold=False, now=0.0)
    assert [type(answer) for answer in answers[2:]] == [Write, Write]
    seal(store, other, [answer for answer in answers if isinstance(answer, Write)])
    store.buried(busy)
    assert held(store, "abcd") == "abcd"
    store.check()


def test_leases_of_a_session_that_was_set_aside_keep_blocks_from_being_evicted() -> None:
    store = catalog(2)
    writer, hung = session(store, "writer"), session(store, "hung")
    put(store, writer, "ab")
    leased(store, hung, "ab")
    store.end(hung, dead=False)
    assert store.allocate(writer, names("x"), last_is_short=False, hold=False, now=0.0) == [Refused()]
    store.buried(hung)
    allocate(store, writer, "x")
    store.check()


def test_a_short_block_goes_with_the_session_that_leased_it_last() -> None:
    store = catalog(8)
    w = session(store)
    put(store, w, "ab", hold=True, short=True)
    store.end(w, dead=True)
    assert store.snapshot().sealed == 1
    store.check()


def test_a_session_that_has_ended_or_was_set_aside_gets_nothing_and_changes_nothing() -> None:
    for dead in (True, False):
        store = catalog(8)
        busy = busy_session(store)
        mine = [
            answer.ref
            for answer in store.allocate(busy, names("x"), last_is_short=False, hold=False, now=0.0)
            if isinstance(answer, Write)
        ]
        store.end(busy, dead=dead)
        before = store.snapshot()
        assert store.allocate(busy, names("ay"), last_is_short=False, hold=True, now=0.0) == [Refused(), Refused()]
        assert store.seal(busy, mine, [1], now=0.0) == ([False], [])
        assert store.discard(busy, mine) == []
        assert store.acquire(busy, 1, names("a"), deadline=9.0, now=0.0, handoff=True) == [
            Answer(busy, 1, (), done=True)
        ]
        store.release(busy, mine)
        assert store.snapshot() == before
        store.check()


def test_nobody_is_told_what_a_session_waited_for_after_it_has_ended() -> None:
    store = catalog(8)
    writer, reader = session(store, "writer"), session(store, "reader")
    written = allocate(store, writer, "a")
    store.acquire(reader, 1, names("a"), deadline=9.0, now=0.0, handoff=True)
    store.end(reader, dead=True)
    assert seal(store, writer, written) == []
    assert (store.snapshot().leases, store.tick(now=10.0)) == (0, [])
    store.check()


def test_to_end_twice_is_to_end_once() -> None:
    store = catalog(8)
    w = session(store)
    store.end(w, dead=True)
    assert store.end(w, dead=True) == []
    assert store.end(SessionId("never seen"), dead=False) == []


def test_only_a_session_without_its_connection_can_be_buried() -> None:
    store = catalog(8)
    with pytest.raises(AssertionError, match="still has its connection"):
        store.buried(session(store))


def test_a_worker_of_another_kind_is_refused_in_a_sentence_and_changes_nothing() -> None:
    store = catalog(8)
    w = session(store)
    allocate(store, w, "a")
    other = replace(IDENTITY, dtype="bfloat16", weights="w2")
    with pytest.raises(IdentityMismatch, match=r"differs in model weights w2 instead of w1, dtype bfloat16"):
        store.hello(SessionId("other"), worker="w", incarnation=1, identity=other)
    assert store.snapshot().sessions == ("w",)
    assert store.snapshot().writing == 1


def test_a_worker_may_call_the_same_model_by_another_name() -> None:
    store = catalog(8)
    store.hello(SessionId("w"), worker="w", incarnation=1, identity=replace(IDENTITY, model="my model"))
    assert store.snapshot().sessions == ("w",)
