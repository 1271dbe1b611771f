"""Leases: taken in prefix order, waited for no longer than promised, and counted."""

from kvstore.catalog import Catalog
from kvstore.vocabulary import Answer, Lease, SessionId, SlotRef
from tests.kvstore.builders import allocate, catalog, leased, names, put, seal, session


def world(slots: int = 16) -> tuple[Catalog, SessionId, SessionId]:
    """A store, one who writes and one who reads."""
    store = catalog(slots)
    return store, session(store, "writer"), session(store, "reader")


def refs(answer: Answer) -> list[SlotRef]:
    return [lease.ref for lease in answer.leases]


def test_the_longest_held_prefix_is_leased_at_once() -> None:
    store, writer, reader = world()
    written = put(store, writer, "abc")
    assert store.acquire(reader, 7, names("abcxy"), deadline=9.0, now=0.0, handoff=True) == [
        Answer(reader, 7, tuple(Lease(ref.slot, ref.generation, 1000 + ref.slot) for ref in written), done=True)
    ]
    assert store.snapshot().leases == 3


def test_what_comes_after_a_hole_is_not_leased() -> None:
    store, writer, reader = world()
    written = allocate(store, writer, "abc")
    store.discard(writer, written[1:2])
    seal(store, writer, [written[0], written[2]])
    assert leased(store, reader, "abc") == written[:1]
    store.check()


def test_nothing_held_and_nothing_written_is_missing_at_once() -> None:
    store, _, reader = world()
    assert store.acquire(reader, 1, names("ab"), deadline=9.0, now=0.0, handoff=True) == [
        Answer(reader, 1, (), done=True)
    ]
    assert store.next_deadline is None


def test_nothing_asked_is_answered_at_once() -> None:
    store, _, reader = world()
    assert store.acquire(reader, 1, [], deadline=9.0, now=0.0, handoff=True) == [Answer(reader, 1, (), done=True)]


def test_blocks_being_written_are_answered_in_parts_in_prefix_order() -> None:
    store, writer, reader = world()
    written = put(store, writer, "a")
    written += allocate(store, writer, "abcde")[1:]
    (first,) = store.acquire(reader, 7, names("abcde"), deadline=9.0, now=0.0, handoff=True)
    assert (refs(first), first.done) == (written[:1], False)
    assert seal(store, writer, written[2:3]) == [], "c waits for b"
    (second,) = seal(store, writer, written[1:2])
    assert (refs(second), second.done) == (written[1:3], False)
    (last,) = seal(store, writer, written[3:])
    assert (refs(last), last.done) == (written[3:], True)
    assert store.snapshot().leases == 5
    store.check()


def test_blocks_sealed_in_one_call_come_in_one_part() -> None:
    store, writer, reader = world()
    written = allocate(store, writer, "abcd")
    assert store.acquire(reader, 7, names("abcd"), deadline=9.0, now=0.0, handoff=True) == []
    (answer,) = seal(store, writer, list(reversed(written)))
    assert (refs(answer), answer.done) == (written, True)


def test_whoever_waits_is_told_at_once_that_the_writer_gave_up() -> None:
    store, writer, reader = world()
    written = allocate(store, writer, "ab")
    assert store.acquire(reader, 7, names("ab"), deadline=9.0, now=0.0, handoff=True) == []
    assert store.discard(writer, written[1:]) == [], "nobody waits for b yet"
    assert store.discard(writer, written[:1]) == [Answer(reader, 7, (), done=True)]
    assert store.next_deadline is None
    store.check()


def test_a_part_that_ends_before_a_discarded_block_is_the_last() -> None:
    store, writer, reader = world()
    written = allocate(store, writer, "ab")
    store.acquire(reader, 7, names("ab"), deadline=9.0, now=0.0, handoff=True)
    store.discard(writer, written[1:])
    (answer,) = seal(store, writer, written[:1])
    assert (refs(answer), answer.done) == (written[:1], True)


def test_whoever_waits_is_told_at_once_that_the_writer_is_gone() -> None:
    for dead in (True, False):
        store, writer, reader = world()
        allocate(store, writer, "ab")
        store.acquire(reader, 7, names("ab"), deadline=9.0, now=0.0, handoff=True)
        assert store.end(writer, dead=dead) == [Answer(reader, 7, (), done=True)]
        store.check()


def test_a_deadline_ends_the_wait_and_keeps_what_was_leased() -> None:
    store, writer, reader = world()
    written = put(store, writer, "a") + allocate(store, writer, "ab")[1:]
    (part,) = store.acquire(reader, 7, names("ab"), deadline=2.5, now=0.0, handoff=True)
    assert (refs(part), store.next_deadline) == (written[:1], 2.5)
    assert store.tick(now=2.4) == []
    assert store.tick(now=2.5) == [Answer(reader, 7, (), done=True)]
    assert (store.next_deadline, store.snapshot().waiting, store.snapshot().leases) == (None, 0, 1)
    assert seal(store, writer, written[1:]) == [], "nobody waits any more"
    store.check()


def test_a_deadline_that_has_passed_unnoticed_gives_what_there_is_and_waits_no_further() -> None:
    store, writer, reader = world()
    written = allocate(store, writer, "ab")
    store.acquire(reader, 7, names("ab"), deadline=2.0, now=0.0, handoff=True)
    (answer,) = seal(store, writer, written[:1], now=3.0)
    assert (refs(answer), answer.done) == (written[:1], True)


def test_the_next_deadline_is_the_earliest() -> None:
    store, writer, reader = world()
    allocate(store, writer, "ab")
    store.acquire(reader, 1, names("a"), deadline=5.0, now=0.0, handoff=True)
    store.acquire(reader, 2, names("ab"), deadline=3.0, now=0.0, handoff=True)
    assert store.next_deadline == 3.0
    assert [answer.call for answer in store.tick(now=4.0)] == [2]
    assert store.next_deadline == 5.0


def test_everyone_who_waits_for_a_block_gets_it_first_come_first() -> None:
    store, writer, reader = world()
    other = session(store, "other")
    written = allocate(store, writer, "a")
    for owner, call in [(other, 3), (reader, 1), (reader, 2)]:
        store.acquire(owner, call, names("a"), deadline=9.0, now=0.0, handoff=True)
    assert [(answer.session, answer.call) for answer in seal(store, writer, written)] == [
        (other, 3),
        (reader, 1),
        (reader, 2),
    ]
    assert store.snapshot().leases == 3
    store.check()


def test_a_session_may_wait_for_what_it_writes_itself() -> None:
    store, writer, _ = world()
    written = allocate(store, writer, "a")
    store.acquire(writer, 1, names("a"), deadline=9.0, now=0.0, handoff=True)
    (answer,) = seal(store, writer, written)
    assert answer.session == writer


def test_leases_are_counted_per_session_and_slot() -> None:
    store, writer, reader = world()
    (ref,) = put(store, writer, "a", hold=True)
    for _ in range(2):
        assert leased(store, reader, "a") == [ref]
    store.release(reader, [ref, ref, ref])
    assert store.snapshot().leases == 1, "the reader can't release the writer's lease"
    store.release(writer, [ref])
    assert store.snapshot().leases == 0
    store.check()


def test_a_lease_outlives_the_session_that_wrote_the_block() -> None:
    store, writer, reader = world()
    put(store, writer, "a")
    taken = leased(store, reader, "a")
    store.end(writer, dead=True)
    assert store.snapshot().leases == 1
    store.release(reader, taken)
    store.check()
