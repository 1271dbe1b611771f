"""What is sealed gets to the SSD: when, how much at a time, and what is lost before."""

import pytest

from kvstore import plan
from kvstore.catalog import Catalog
from kvstore.names import BlockName
from kvstore.vocabulary import Admit, Demote, DiskEntry, Refused, SessionId
from kvstore.write_behind import WriteBehind
from tests.kvstore.builders import (
    IDENTITY,
    LAYOUT,
    allocate,
    carry_out,
    catalog,
    disk,
    held,
    leased,
    names,
    on_disk,
    put,
    seal,
    session,
)


def world(slots: int = 16, disk_slots: int = 16, *, admit: Admit = Admit.ALL) -> tuple[Catalog, SessionId]:
    """A store with an empty SSD, and one who writes and reads."""
    store = Catalog(low_watermark=0.0, high_watermark=0.0, admit=admit)
    store.adopt(IDENTITY, LAYOUT, slots)
    store.attach_disk(disk_slots, [])
    return store, session(store)


def demotes(store: Catalog) -> list[Demote]:
    return [move for move in store.moves(now=0.0) if isinstance(move, Demote)]


def test_what_is_sealed_is_written_behind_head_first() -> None:
    store, w = world(64)
    refs = put(store, w, "abc")
    moves = demotes(store)
    assert [move.name for move in moves] == names("abc")
    assert [(move.source, move.checksum, move.tokens) for move in moves] == [(ref, 1000 + ref.slot, 4) for ref in refs]
    assert (on_disk(store, "abc"), disk(store).pending, disk(store).writing) == ("", 3, 3)
    for move in moves:
        store.demoted(move, done=True, now=1.0)
    assert (on_disk(store, "abc"), disk(store).pending, held(store, "abc")) == ("abc", 0, "abc")
    store.check()


def test_without_an_ssd_nothing_is_planned() -> None:
    store = catalog(8)
    put(store, session(store), "abc")
    assert (store.moves(now=0.0), store.disk_names(), store.disk_entries()) == ([], [], [])
    assert store.snapshot().disk is None


def test_what_was_sealed_before_the_ssd_was_ready_is_written_once_it_is() -> None:
    store = catalog(16)
    put(store, session(store), "abc")
    store.attach_disk(16, [])
    assert disk(store).pending == 3
    carry_out(store)
    assert on_disk(store, "abc") == "abc"


def test_what_is_on_the_ssd_is_not_written_again() -> None:
    store, w = world(4)
    put(store, w, "ab")
    carry_out(store)
    put(store, w, "wxyz")
    assert held(store, "ab") == ""
    carry_out(store)
    put(store, w, "ab")
    assert (on_disk(store, "ab"), disk(store).pending) == ("ab", 0)
    store.check()


def test_eviction_drops_copies_only() -> None:
    store, w = world(4)
    put(store, w, "abcd")
    carry_out(store)
    put(store, w, "wxyz")
    assert (held(store, "abcd"), on_disk(store, "abcd")) == ("", "abcd")
    assert disk(store).lost_pending == 0
    store.check()


def test_a_victim_that_is_still_to_be_written_is_lost_and_counted() -> None:
    store, w = world(4)
    put(store, w, "abcd")
    put(store, w, "wx")
    assert (held(store, "abcd"), disk(store).lost_pending, disk(store).pending) == ("ab", 2, 4)
    carry_out(store)
    assert (on_disk(store, "abcd"), on_disk(store, "wx")) == ("ab", "wx")


def test_what_is_being_written_behind_is_not_evicted_meanwhile() -> None:
    store, w = world(2)
    put(store, w, "a")
    (move,) = demotes(store)
    put(store, w, "x")
    put(store, w, "y")
    assert (held(store, "a"), held(store, "x"), held(store, "y")) == ("a", "", "y")
    store.demoted(move, done=True, now=0.0)
    put(store, w, "z")
    assert held(store, "a") == "", "its turn was over; a copy to the disk is not a use"
    store.check()


def test_a_copy_to_the_disk_changes_nothing_about_who_goes_next() -> None:
    store, w = world(4)
    for letter in "abcd":
        put(store, w, letter)
    carry_out(store)
    put(store, w, "x")
    assert [letter for letter in "abcd" if held(store, letter)] == ["b", "c", "d"]


def test_a_small_arena_is_never_pinned_whole() -> None:
    for slots, most in [(1, 0), (2, 1), (8, 1), (16, 2), (64, 8), (256, 16)]:
        store, w = world(slots, 512)
        for number in range(slots):
            put(store, w, chr(1000 + number))
        assert len(demotes(store)) == most
        assert store.allocate(w, names("!"), last_is_short=False, hold=False, now=0.0) != [Refused()]
        assert demotes(store) == [], "no more until one has ended"
        store.check()


def test_pins_are_no_leases_of_anybody() -> None:
    store, w = world()
    put(store, w, "ab")
    assert len(demotes(store)) == 2
    assert (store.snapshot().leases, store.snapshot().owners) == (0, ())
    assert store.snapshot().evictable == 2


def test_a_write_that_failed_gives_its_pin_and_its_slot_back() -> None:
    store, w = world()
    put(store, w, "a")
    (move,) = demotes(store)
    store.demoted(move, done=False, now=0.0)
    assert (on_disk(store, "a"), disk(store).free, disk(store).pending, held(store, "a")) == ("", 16, 0, "a")
    assert demotes(store) == [], "it is not tried for ever"
    assert store.reset() == 1
    store.check()


def test_short_blocks_are_never_written_behind() -> None:
    store, w = world()
    put(store, w, "abc", hold=True, short=True)
    assert disk(store).pending == 2
    carry_out(store)
    assert on_disk(store, "abc") == "ab"


def test_the_oldest_pending_block_tells_how_far_the_disk_is_behind() -> None:
    store, w = world(64)
    seal(store, w, allocate(store, w, "a"), now=5.0)
    seal(store, w, allocate(store, w, "x"), now=6.0)
    assert disk(store).oldest_pending == 5.0
    first, second = demotes(store)
    assert disk(store).oldest_pending == 5.0, "being written is not written"
    store.demoted(first, done=True, now=7.0)
    assert disk(store).oldest_pending == 6.0
    store.demoted(second, done=True, now=7.0)
    assert disk(store).oldest_pending is None


def test_while_the_disk_keeps_up_nothing_waits_for_two_seconds() -> None:
    """Prompts of 40 blocks, one a second; the disk writes one block after the other, 20 ms each: busy four fifths."""
    store, w = world(200, 1000)
    sealed, writing, free_at, oldest_s = 0, list[tuple[float, Demote]](), 0.0, 0.0
    for hundredth in range(1200):
        now = hundredth / 100
        while writing and writing[0][0] <= now:
            store.demoted(writing.pop(0)[1], done=True, now=now)
        if hundredth % 100 == 0 and now < 10.0:
            prompt = [chr(0x4E00 + sealed + place) for place in range(40)]
            seal(store, w, allocate(store, w, "".join(prompt)), now=now)
            sealed += len(prompt)
        for move in demotes(store):
            free_at = max(free_at, now) + 0.02
            writing.append((free_at, move))
        pending = disk(store).oldest_pending
        oldest_s = max(oldest_s, 0.0 if pending is None else now - pending)
    assert 0.5 < oldest_s <= 2.0
    assert (disk(store).pending, disk(store).held) == (0, sealed)


def test_a_full_disk_gives_up_what_was_used_longest_ago_tails_before_heads() -> None:
    store, w = world(16, 5)
    put(store, w, "abc")
    put(store, w, "xy")
    carry_out(store)
    store.release(w, leased(store, w, "abc"))
    for letter in "123":
        put(store, w, letter)
        carry_out(store)
    assert (on_disk(store, "abc"), on_disk(store, "xy"), disk(store).evicted) == ("ab", "", 3)
    store.check()


def test_a_use_in_dram_counts_on_the_disk_too() -> None:
    store, w = world(16, 2)
    put(store, w, "a")
    put(store, w, "b")
    carry_out(store)
    store.release(w, leased(store, w, "a"))
    put(store, w, "c")
    carry_out(store)
    assert [letter for letter in "abc" if on_disk(store, letter)] == ["a", "c"]


def test_a_prompt_that_is_written_while_it_is_leased_is_not_the_oldest_on_the_disk() -> None:
    store, w = world(64, 3)
    put(store, w, "x")
    put(store, w, "ab", hold=True)
    carry_out(store)
    put(store, w, "y")
    carry_out(store)
    assert (on_disk(store, "x"), on_disk(store, "ab"), on_disk(store, "y")) == ("", "ab", "y")


def test_only_what_was_seen_twice_is_written_if_told_so() -> None:
    store, w = world(4, admit=Admit.TWICE)
    put(store, w, "ab")
    assert disk(store).pending == 0
    store.release(w, leased(store, w, "a"))
    assert disk(store).pending == 1, "a was looked up"
    carry_out(store)
    put(store, w, "wxyz")
    put(store, w, "ab")
    carry_out(store)
    assert (on_disk(store, "ab"), on_disk(store, "wxyz")) == ("ab", ""), "b was sealed again after it was lost"


def test_a_handoff_is_no_second_look() -> None:
    store, w = world(admit=Admit.TWICE)
    put(store, w, "a")
    store.acquire(w, 1, names("a"), deadline=0.0, now=0.0, handoff=True)
    assert disk(store).pending == 0


def test_names_seen_once_are_remembered_within_bounds() -> None:
    behind = WriteBehind(Admit.TWICE, remembered=2)
    for letter in "abc":
        behind.sealed(BlockName(letter.encode()), now=0.0)
    behind.sealed(BlockName(b"a"), now=0.0)
    assert behind.names() == [], "a was forgotten for c"
    behind.sealed(BlockName(b"c"), now=0.0)
    assert behind.names() == [b"c"]


def test_to_be_named_again_while_it_is_pending_is_not_to_be_seen_once_more() -> None:
    behind = WriteBehind(Admit.TWICE)
    name = BlockName(b"a")
    for now in (1.0, 2.0, 3.0):
        behind.sealed(name, now=now)
    assert behind.take() == (name, 2.0)
    behind.sealed(name, now=4.0)
    assert behind.names() == []


def test_reset_empties_both_tiers_even_while_blocks_are_copied() -> None:
    store, w = world(64)
    put(store, w, "abc")
    kept = leased(store, w, "a")
    moves = demotes(store)
    assert store.reset() == 2
    assert (held(store, "abc"), store.disk_names()) == ("a", [])
    for move in moves:
        store.demoted(move, done=True, now=0.0)
    assert (store.disk_names(), store.snapshot().sealed, disk(store).free) == ([], 1, 16)
    carry_out(store)
    assert on_disk(store, "a") == "a", "what is held still is written to the emptied disk"
    store.release(w, kept)
    store.check()


def test_a_disk_that_fails_is_left_behind_and_service_goes_on() -> None:
    store, w = world(64)
    put(store, w, "ab")
    carry_out(store)
    put(store, w, "xy")
    moves = demotes(store)
    store.changes()
    assert store.detach_disk(now=0.0) == []
    assert (store.snapshot().disk, store.disk_names()) == (None, [])
    assert set(store.changes().ssd_lost) == set(names("ab"))
    for move in moves:
        store.demoted(move, done=False, now=0.0)
    assert (held(store, "ab"), held(store, "xy")) == ("ab", "xy")
    put(store, w, "pq")
    assert (store.moves(now=0.0), store.detach_disk(now=0.0), store.reset()) == ([], [], 6)
    store.check()


def test_what_is_told_of_the_ssd_is_told_apart() -> None:
    store, w = world(16, 2)
    put(store, w, "ab")
    carry_out(store)
    changes = store.changes()
    assert (changes.gained, changes.ssd_gained) == (tuple(names("ab")), tuple(names("ab")))
    put(store, w, "x")
    carry_out(store)
    changes = store.changes()
    assert (changes.gained, changes.lost) == (tuple(names("x")), ())
    assert (changes.ssd_gained, changes.ssd_lost) == (tuple(names("x")), (names("ab")[1],))


def test_a_restart_finds_everything_in_the_order_in_which_it_was_used() -> None:
    store, w = world(16, 4)
    put(store, w, "abc")
    carry_out(store)
    entries = store.disk_entries()
    assert [entry.name for entry in entries] == list(reversed(names("abc")))
    again = catalog(16)
    again.attach_disk(4, entries)
    assert (on_disk(again, "abc"), again.disk_entries()) == ("abc", entries)
    put(again, session(again), "xy")
    carry_out(again)
    assert on_disk(again, "abc") == "ab", "the tail went first, as it would have before"
    again.check()


def test_of_two_slots_with_one_name_one_is_free() -> None:
    """A slot that was given up and not written over still says what it held."""
    store = catalog(16)
    a, b = names("ab")
    entries = [DiskEntry(0, a, 1, 4), DiskEntry(1, b, 2, 4), DiskEntry(2, a, 3, 4)]
    store.attach_disk(4, entries)
    assert (set(store.disk_names()), disk(store).free) == ({a, b}, 2)
    store.check()


def test_a_disk_is_there_after_the_last_of_many_steps_and_what_was_used_meanwhile_goes_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "ATTACHED_AT_ONCE", 2)
    store = catalog(16)
    w = session(store)
    entries = [DiskEntry(slot, name, slot, 4) for slot, name in enumerate(names("abcde"))]
    steps = store.attaching_disk(6, entries)
    for blocks in (2, 2, 1):
        assert next(steps) == blocks
        put(store, w, "x")
        assert (store.disk_names(), store.changes().ssd_gained) == ([], ())
        store.check()
    assert next(steps, None) is None
    assert store.changes().ssd_gained == tuple(names("abcde"))
    store.check()
    carry_out(store)
    assert set(store.disk_names()) == {*names("abcde"), *names("x")}
    put(store, w, "y")
    carry_out(store)
    assert set(store.disk_names()) == {*names("abcde")[1:], *names("x"), *names("y")}, "the one used longest ago went"
    store.check()


def test_names_that_come_back_with_another_disk_before_their_loss_was_told_are_nothing_to_tell() -> None:
    store, w = world(16, 4)
    put(store, w, "ab")
    carry_out(store)
    store.changes()
    entries = store.disk_entries()
    store.detach_disk(now=0.0)
    store.attach_disk(4, entries[:1])
    changes = store.changes()
    assert (changes.ssd_gained, changes.ssd_lost) == ((), (entries[1].name,))
    store.check()


@pytest.mark.parametrize("entry", [DiskEntry(9, names("a")[0], 1, 4), DiskEntry(0, names("a")[0], 1, 3)])
def test_what_cannot_be_a_block_of_ours_is_left_out(entry: DiskEntry) -> None:
    store = catalog(16)
    store.attach_disk(4, [entry])
    assert store.disk_names() == []
    store.check()
