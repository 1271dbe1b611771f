"""What is asked for and lies on the SSD, or with a peer, is brought to DRAM ahead of its reader."""

from kvstore.catalog import Catalog
from kvstore.vocabulary import Answer, Demote, Fetch, Hits, Peer, Promote, Refused, SessionId, SlotRef, Writing
from tests.kvstore.builders import allocate, carry_out, catalog, disk, held, leased, names, on_disk, put, seal, session

PEER = Peer("store-1", "127.0.0.1:7300")


def world(text: str = "abcd", *, slots: int = 16, disk_slots: int = 64) -> tuple[Catalog, SessionId]:
    """``text`` is on the SSD and no longer in DRAM, which is free."""
    before = catalog(64)
    before.attach_disk(disk_slots, [])
    put(before, session(before), text)
    carry_out(before)
    store = catalog(slots)
    store.attach_disk(disk_slots, before.disk_entries())
    return store, session(store)


def lookup(
    store: Catalog,
    reader: SessionId,
    text: str,
    *,
    call: int = 1,
    wait_s: float = 5.0,
    source: Peer | None = None,
    fetchable: int | None = None,
) -> list[Answer]:
    return store.acquire(reader, call, names(text), deadline=wait_s, now=0.0, source=source, fetchable=fetchable)


def letters(text: str, moves: list[Promote]) -> str:
    known = dict(zip(names(text), text, strict=True))
    return "".join(known[move.name] for move in moves)


def promotes(store: Catalog) -> list[Promote]:
    return [move for move in store.moves(now=0.0) if isinstance(move, Promote)]


def fetch_of(store: Catalog) -> Fetch:
    (move,) = [move for move in store.moves(now=0.0) if isinstance(move, Fetch)]
    return move


def got(answers: list[Answer]) -> tuple[int, bool]:
    """How many leases, and whether that was all."""
    return sum(len(answer.leases) for answer in answers), bool(answers) and answers[-1].done


def test_the_whole_run_is_read_ahead_in_prefix_order() -> None:
    store, r = world()
    assert lookup(store, r, "abcd") == []
    moves = promotes(store)
    assert letters("abcd", moves) == "abcd"
    assert [got(store.promoted(move, done=True, now=0.0)) for move in moves] == [(1, False)] * 3 + [(1, True)]
    assert (held(store, "abcd"), on_disk(store, "abcd"), store.snapshot().leases) == ("abcd", "abcd", 4)
    store.check()


def test_what_comes_out_of_order_is_answered_in_order() -> None:
    store, r = world()
    lookup(store, r, "abcd")
    a, b, c, d = promotes(store)
    assert store.promoted(d, done=True, now=0.0) == store.promoted(b, done=True, now=0.0) == []
    assert got(store.promoted(a, done=True, now=0.0)) == (2, False)
    assert got(store.promoted(c, done=True, now=0.0)) == (2, True)


def test_reads_are_bounded_and_the_next_begins_as_one_ends() -> None:
    store, r = world("abcdefghijklmnopqrstuvwxyz", slots=200)
    lookup(store, r, "abcdefghijklmnopqrstuvwxyz")
    moves = promotes(store)
    assert len(moves) == 16
    assert promotes(store) == []
    store.promoted(moves[0], done=True, now=0.0)
    assert len(promotes(store)) == 1


def test_who_waits_for_nothing_gets_what_is_in_dram() -> None:
    store, r = world()
    assert lookup(store, r, "abcd", wait_s=0.0) == [Answer(r, 1, (), done=True)]
    assert store.moves(now=0.0) == []


def test_two_who_ask_for_one_block_cause_one_read() -> None:
    store, r = world()
    other = session(store, "other")
    lookup(store, r, "ab")
    lookup(store, other, "ab", call=2)
    answers = carry_out(store)
    assert sorted(answer.session for answer in answers if answer.done) == ["other", "w"]
    assert store.snapshot().leases == 4


def test_a_block_that_is_being_promoted_is_nobody_elses_to_write() -> None:
    store, r = world()
    lookup(store, r, "a")
    assert store.allocate(r, names("a"), last_is_short=False, hold=False, now=0.0) == [Writing()]


def test_a_torn_block_is_missing_dropped_and_counted() -> None:
    store, r = world()
    lookup(store, r, "abcd")
    a, b, c, d = promotes(store)
    store.promoted(a, done=True, now=0.0)
    assert store.promoted(b, done=False, now=0.0) == [Answer(r, 1, (), done=True)]
    assert (on_disk(store, "abcd"), disk(store).dropped_torn, held(store, "abcd")) == ("acd", 1, "a")
    for move in (c, d):
        assert store.promoted(move, done=True, now=0.0) == []
    assert (held(store, "abcd"), store.snapshot().writing) == ("acd", 0)
    put(store, r, "abcd")
    carry_out(store)
    assert on_disk(store, "abcd") == "abcd", "recomputed, and written again"
    store.check()


def test_a_read_of_what_was_dropped_meanwhile_ends_as_missing_and_is_not_called_torn() -> None:
    store, r = world()
    lookup(store, r, "ab")
    assert store.reset() == 0
    assert (store.disk_names(), disk(store).free) == ([], 62)
    a, b = promotes(store)
    assert store.promoted(a, done=False, now=0.0) == [Answer(r, 1, (), done=True)]
    assert store.promoted(b, done=False, now=0.0) == []
    assert (disk(store).dropped_torn, disk(store).free, store.snapshot().writing) == (0, 64, 0)
    store.check()


def test_a_deadline_ends_the_wait_and_what_comes_late_is_kept() -> None:
    store, r = world()
    lookup(store, r, "ab", wait_s=2.0)
    moves = promotes(store)
    assert store.next_deadline == 2.0
    assert store.tick(now=2.0) == [Answer(r, 1, (), done=True)]
    for move in moves:
        assert store.promoted(move, done=True, now=3.0) == []
    assert (leased(store, r, "ab"), store.snapshot().leases) != ([], 0)
    store.check()


def test_nothing_leaks_when_a_reader_dies_in_the_middle() -> None:
    store, r = world()
    lookup(store, r, "abcd")
    moves = promotes(store)
    store.promoted(moves[0], done=True, now=0.0)
    store.end(r, dead=True)
    for move in moves[1:]:
        assert store.promoted(move, done=True, now=0.0) == []
    snapshot = store.snapshot()
    assert (snapshot.leases, snapshot.writing, snapshot.sealed, snapshot.owners) == (0, 0, 4, ())
    assert (store.reset(), disk(store).free) == (4, 64)
    store.check()


def test_without_room_it_counts_as_missing() -> None:
    store, r = world(slots=2)
    put(store, r, "xy", hold=True)
    assert lookup(store, r, "ab") == [Answer(r, 1, (), done=True)]
    assert on_disk(store, "ab") == "ab"


def test_a_prefix_longer_than_the_arena_streams_through_it_as_its_reader_lets_go() -> None:
    text = "abcdefghijklmnopqrst"
    store, r = world(text, slots=8)
    assert lookup(store, r, text) == []
    seen: list[SlotRef] = []
    done = False
    while not done:
        moves = promotes(store)
        assert moves, "the reader would wait for ever"
        assert store.snapshot().writing <= 2, "a quarter of the arena at most lies ahead of it"
        for move in moves:
            for answer in store.promoted(move, done=True, now=0.0):
                refs = [lease.ref for lease in answer.leases]
                store.release(r, refs)
                seen, done = seen + refs, answer.done
        store.check()
    assert len(seen) == len(text)


def test_what_was_read_ahead_and_evicted_before_its_turn_is_read_again() -> None:
    store, r = world("abc", slots=12)
    lookup(store, r, "abc")
    a, b, c = promotes(store)
    store.promoted(c, done=True, now=0.0)
    for number in range(11):
        put(store, r, chr(1000 + number))
    assert held(store, "abc") == ""
    store.promoted(a, done=True, now=0.0)
    assert not store.promoted(b, done=True, now=0.0)[0].done
    (again,) = promotes(store)
    assert letters("abc", [again]) == "c"
    assert got(store.promoted(again, done=True, now=0.0)) == (1, True)


def test_a_disk_that_fails_while_it_is_read_from_leaves_nobody_waiting() -> None:
    store, r = world("abcdefghijklmnopqrstuvwxyz", slots=200)
    lookup(store, r, "abcdefghijklmnopqrstuvwxyz")
    moves = promotes(store)
    assert store.detach_disk(now=0.0) == [], "its next block is being read still"
    assert store.promoted(moves[0], done=False, now=0.0) == [Answer(r, 1, (), done=True)]
    for move in moves[1:]:
        assert store.promoted(move, done=False, now=0.0) == []
    assert (store.snapshot().writing, store.snapshot().waiting) == (0, 0)
    store.check()


def test_a_reader_whose_block_was_not_begun_is_told_as_the_disk_fails() -> None:
    store, r = world()
    lookup(store, r, "ab")
    assert store.detach_disk(now=0.0) == [Answer(r, 1, (), done=True)]
    assert (store.snapshot().writing, store.moves(now=0.0)) == (0, [])
    store.check()


def test_a_slot_that_is_being_read_is_not_written_over() -> None:
    store, r = world("ab", disk_slots=2)
    lookup(store, r, "ab")
    moves = promotes(store)
    put(store, r, "xy")
    assert [move for move in store.moves(now=0.0) if isinstance(move, Demote)] == []
    for move in moves:
        store.promoted(move, done=True, now=0.0)
    carry_out(store)
    assert on_disk(store, "xy") == "xy"
    store.check()


def test_a_lookup_does_not_wait_for_what_others_write_and_a_handoff_does() -> None:
    store, r = world("")
    w = session(store, "writer")
    refs = allocate(store, w, "ab")
    assert lookup(store, r, "ab") == [Answer(r, 1, (), done=True)]
    assert store.acquire(r, 2, names("ab"), deadline=5.0, now=0.0, handoff=True) == []
    assert got(seal(store, w, refs)) == (2, True)


def test_lookups_are_counted_by_where_they_found_what_they_were_given() -> None:
    store, r = world("abc")
    put(store, r, "ab")
    lookup(store, r, "abcde", source=PEER)
    for move in store.moves(now=0.0):
        assert store.snapshot().hits == Hits(asked=5, dram=2, ssd=0, peer=0), "counted once the reader has it"
        if isinstance(move, Promote):
            store.promoted(move, done=True, now=0.0)
        elif isinstance(move, Fetch):
            seal(store, move.session, move.targets)
    assert store.snapshot().hits == Hits(asked=5, dram=2, ssd=1, peer=2)
    store.acquire(r, 2, names("abcde"), deadline=0.0, now=0.0, handoff=True)
    assert store.snapshot().hits.asked == 5


def test_what_is_found_nowhere_is_fetched_in_one_run_behind_what_is_held() -> None:
    store, r = world("b", slots=32)
    put(store, r, "a")
    assert got(lookup(store, r, "abcd", source=PEER)) == (1, False)
    fetch = fetch_of(store)
    assert (fetch.peer, fetch.names, fetch.deadline) == (PEER, tuple(names("abcd")[1:]), 5.0)
    assert got(seal(store, fetch.session, fetch.targets[:1])) == (1, False)
    assert got(seal(store, fetch.session, fetch.targets[1:])) == (2, True)
    assert store.end(fetch.session, dead=True) == []
    store.check()


def test_only_the_names_that_a_peer_is_believed_to_hold_are_fetched() -> None:
    store, r = world("", slots=32)
    put(store, session(store, "w"), "a")
    assert got(lookup(store, r, "abcd", source=PEER, fetchable=3)) == (1, False)
    fetch = fetch_of(store)
    assert fetch.names == tuple(names("abcd")[1:3])
    assert store.snapshot().writing == 2
    assert got(seal(store, fetch.session, fetch.targets)) == (2, True)
    assert store.end(fetch.session, dead=True) == []
    store.check()


def test_a_peer_that_holds_none_of_what_is_missing_here_is_not_asked() -> None:
    store, r = world("", slots=32)
    put(store, session(store, "w"), "ab")
    assert got(lookup(store, r, "abcd", source=PEER, fetchable=2)) == (2, True)
    assert not any(isinstance(move, Fetch) for move in store.moves(now=0.0))
    store.check()


def test_a_fetch_that_ends_early_leaves_the_rest_missing_at_once() -> None:
    store, r = world("", slots=32)
    lookup(store, r, "abcd", source=PEER)
    fetch = fetch_of(store)
    seal(store, fetch.session, fetch.targets[:2])
    assert store.end(fetch.session, dead=True) == [Answer(r, 1, (), done=True)]
    snapshot = store.snapshot()
    assert (held(store, "abcd"), snapshot.writing, snapshot.leases) == ("ab", 0, 2)
    store.check()


def test_without_room_nothing_is_fetched() -> None:
    store, r = world("", slots=2)
    put(store, r, "xy", hold=True)
    assert lookup(store, r, "ab", source=PEER) == [Answer(r, 1, (), done=True)]
    assert not any(isinstance(move, Fetch) for move in store.moves(now=0.0))
    assert [each.owner for each in store.snapshot().owners] == ["w"]
    store.check()


def test_whoever_holds_anything_is_named() -> None:
    store, r = world("a", slots=32)
    lookup(store, r, "a")
    lookup(store, r, "xyz", call=2, source=PEER)
    push = SessionId("push 1")
    store.join(push, owner="push from store-2")
    allocate(store, push, "pq", hold=True)
    hung = session(store, "hung")
    put(store, hung, "k", hold=True)
    store.end(hung, dead=False)
    told = {(each.owner, each.leases, each.writing, each.set_aside) for each in store.snapshot().owners}
    assert told == {
        ("ssd", 0, 1, False),
        ("fetch from store-1", 0, 3, False),
        ("push from store-2", 0, 2, False),
        ("hung", 1, 0, True),
    }
    assert (store.snapshot().sessions, store.snapshot().set_aside) == (("w",), ("hung",))
    store.check()


def test_errands_of_one_owner_do_not_end_each_other() -> None:
    store, _ = world("")
    for number in range(2):
        store.join(SessionId(f"push {number}"), owner="w")
    allocate(store, SessionId("push 0"), "a")
    session(store, "w", name="w again")
    assert store.snapshot().writing == 1
    assert store.end(SessionId("push 0"), dead=True) == []
    assert store.snapshot().writing == 0


def test_leases_pinned_by_a_dead_session_end_and_the_slots_can_be_used() -> None:
    store, r = world("ab", slots=2)
    lookup(store, r, "ab")
    carry_out(store)
    w = session(store, "writer")
    assert store.allocate(w, names("x"), last_is_short=False, hold=False, now=0.0) == [Refused()]
    store.end(r, dead=True)
    assert store.allocate(w, names("x"), last_is_short=False, hold=False, now=0.0) != [Refused()]


def test_asking_again_and_again_renews_nobodys_lease() -> None:
    store, r = world("ab", slots=2)
    for call in range(5):
        lookup(store, r, "ab", call=call)
        for answer in carry_out(store):
            store.release(r, answer.leases)
    store.end(r, dead=True)
    assert (store.snapshot().leases, store.snapshot().evictable) == (0, 2)
    store.check()
