"""The table of device blocks: what is cached, what is given up for new ones, and where those lie."""

import random
from collections.abc import Callable

import pytest

from kvstore.conversations import Outcome, PlainLru, Table, converse, rows
from kvstore.device import ROOM, DeviceBlocks
from tests.kvstore.builders import names


def taken(device: DeviceBlocks, count: int, *, after: int | None = None) -> list[int]:
    blocks = device.take(count, after=after)
    assert blocks is not None
    device.check()
    return blocks


def cache(device: DeviceBlocks, text: str) -> list[int]:
    """A sequence that came, computed all of ``text``, and left; where its blocks are."""
    held = device.match(names(text))
    device.pin(held)
    blocks = held + taken(device, len(text) - len(held), after=held[-1] if held else None)
    for block, name in zip(blocks, names(text), strict=True):
        device.name(block, name)
    device.unpin(blocks)
    device.check()
    return blocks


def cached(device: DeviceBlocks, text: str) -> str:
    return text[: len(device.match(names(text)))]


# What is cached


def test_blocks_that_are_taken_are_pinned_and_nothing_else_is() -> None:
    device = DeviceBlocks(8)
    blocks = taken(device, 3)
    assert (len(set(blocks)), device.pinned, device.cached, device.free) == (3, 3, 0, 5)
    device.unpin(blocks)
    assert (device.pinned, device.cached, device.free) == (0, 0, 8)


def test_too_few_blocks_are_none_and_change_nothing() -> None:
    device = DeviceBlocks(4)
    cache(device, "a")
    taken(device, 1)
    assert device.take(4) is None
    assert (device.pinned, device.cached, device.free) == (1, 1, 3)
    assert cached(device, "a") == "a"
    device.check()


def test_nothing_can_be_taken_at_any_time() -> None:
    device = DeviceBlocks(1)
    assert device.take(0) == []
    taken(device, 1)
    assert device.take(0, after=0) == []
    device.check()


def test_the_longest_cached_prefix_is_found_and_stays_unpinned() -> None:
    device = DeviceBlocks(8)
    blocks = cache(device, "abc")
    assert device.match(names("abxy")) == blocks[:2]
    assert device.match(names("xy")) == []
    assert device.pinned == 0


def test_a_named_block_stays_cached_and_an_unnamed_one_does_not() -> None:
    device = DeviceBlocks(8)
    blocks = taken(device, 2)
    assert device.name(blocks[0], names("a")[0])
    device.unpin(blocks)
    assert (device.cached, device.free) == (1, 8)


def test_a_block_is_pinned_by_each_who_uses_it() -> None:
    device = DeviceBlocks(2)
    (block,) = cache(device, "a")
    device.pin([block])
    device.pin([block])
    device.unpin([block])
    assert device.take(2) is None
    device.unpin([block])
    assert device.take(2) is not None


def test_of_two_blocks_with_one_name_the_first_wins() -> None:
    device = DeviceBlocks(4)
    first, second = taken(device, 2)
    assert device.name(first, names("a")[0])
    assert not device.name(second, names("a")[0])
    assert device.name(first, names("a")[0]), "to say it again is fine"
    assert device.match(names("a")) == [first]
    device.unpin([first, second])
    assert device.cached == 1
    device.check()


def test_to_forget_is_to_lose_every_name_at_once_or_on_unpinning() -> None:
    device = DeviceBlocks(8)
    cache(device, "ab")
    running = taken(device, 2)
    device.name(running[0], names("x")[0])
    assert device.forget() == 3
    assert (device.match(names("x")), device.cached, device.pinned) == ([], 0, 2)
    device.unpin(running)
    assert device.free == 8
    device.check()


@pytest.mark.parametrize(
    "bug",
    [
        lambda device, taken, other: device.pin([other]),
        lambda device, taken, other: device.unpin([other]),
        lambda device, taken, other: device.name(other, names("b")[0]),
        lambda device, taken, other: device.name(taken, names("b")[0]),
    ],
    ids=["pin what holds nothing", "unpin what is not pinned", "name what is not pinned", "name it another way"],
)
def test_a_bug_is_an_assertion(bug: Callable[[DeviceBlocks, int, int], object]) -> None:
    device = DeviceBlocks(4)
    (block,) = taken(device, 1)
    device.name(block, names("a")[0])
    with pytest.raises(AssertionError, match="block"):
        bug(device, block, (block + 1) % 4)
    device.check()


def test_a_device_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one block"):
        DeviceBlocks(0)


# What is given up


def test_the_prefix_used_longest_ago_is_given_up_tail_first() -> None:
    device = DeviceBlocks(6)
    cache(device, "abc")
    cache(device, "xyz")
    taken(device, 1)
    assert (cached(device, "abc"), cached(device, "xyz")) == ("ab", "xyz")
    taken(device, 2)
    assert (cached(device, "abc"), cached(device, "xyz")) == ("", "xyz")


def test_to_use_a_prefix_again_saves_it() -> None:
    device = DeviceBlocks(6)
    cache(device, "abc")
    cache(device, "xyz")
    cache(device, "abc")
    taken(device, 3)
    assert (cached(device, "abc"), cached(device, "xyz")) == ("abc", "")


def test_a_pinned_prefix_is_never_given_up() -> None:
    device = DeviceBlocks(4)
    blocks = cache(device, "ab")
    device.pin(blocks)
    taken(device, 2)
    assert device.take(1) is None
    assert device.match(names("ab")) == blocks


def test_unused_blocks_go_before_cached_ones() -> None:
    device = DeviceBlocks(4)
    cache(device, "ab")
    taken(device, 2)
    assert cached(device, "ab") == "ab"


def test_scattered_unused_blocks_are_taken_before_anything_young_is_given_up_for_a_row() -> None:
    device = DeviceBlocks(16)
    taken(device, 16)
    for block, name in zip([3, 7, 1, 5], names("abcd"), strict=True):
        device.name(block, name)
    device.unpin([0, 2, 4, 6, 5, 1, 7, 3])
    taken(device, 4)
    assert [device.match([name]) for name in names("abcd")[2:]] == [[1], [5]]


# Where new blocks lie


def test_a_sequence_lies_in_a_row() -> None:
    blocks = taken(DeviceBlocks(100), 20)
    assert blocks == list(range(blocks[0], blocks[0] + 20))


def test_sequences_on_a_fresh_device_start_far_apart_and_grow_side_by_side_in_rows() -> None:
    device = DeviceBlocks(1000)
    running = [taken(device, 10) for _ in range(8)]
    for _ in range(50):
        for blocks in running:
            blocks += taken(device, 1, after=blocks[-1])
    assert [rows(blocks) for blocks in running] == [1] * 8


def test_what_continues_a_cached_prefix_lies_behind_it() -> None:
    device = DeviceBlocks(100)
    blocks = cache(device, "abc")
    device.pin(blocks)
    assert taken(device, 4, after=blocks[-1]) == list(range(blocks[-1] + 1, blocks[-1] + 5))


def test_a_full_device_makes_a_row_of_an_old_prefix_rather_than_of_the_oldest_blocks() -> None:
    """The oldest block of all lies alone between younger ones."""
    device = DeviceBlocks(12)
    pages = taken(device, 12)
    chain = names("abcdefghijkl")
    for block, name in zip(pages, chain, strict=True):
        device.name(block, name)
    for block in [8, 5, 4, 3, 2, 1, 0, 6, 7, 9, 10, 11]:
        device.unpin([block])
    assert taken(device, 3) == [3, 4, 5]


def test_growth_takes_what_was_cached_long_ago_and_spares_what_was_used_lately() -> None:
    for age, row in (("old", True), ("young", False)):
        device = DeviceBlocks(16)
        pages = taken(device, 16)
        for block, name in zip(pages, names("abcdefghijklmnop"), strict=True):
            device.name(block, name)
        others = [*range(9), *range(10, 15)]
        for block in [9, *others] if age == "old" else [*others, 9]:
            device.unpin([block])
        device.pin([8])
        assert (taken(device, 1, after=8) == [9]) == row


def test_room_behind_a_growing_sequence_is_left_to_it_while_there_is_other_room() -> None:
    device = DeviceBlocks(320)
    tail = taken(device, 220)[-1]
    others = [taken(device, 8) for _ in range(5)]
    assert not {block for blocks in others for block in blocks} & set(range(tail + 1, tail + 1 + ROOM))


def test_where_there_is_no_row_it_is_as_few_pieces_as_there_can_be() -> None:
    device = DeviceBlocks(16)
    taken(device, 16)
    device.unpin([0, 1, 2, 3, 6, 9, 10, 14])
    blocks = taken(device, 7)
    assert blocks == sorted(blocks)
    assert set(blocks) >= {0, 1, 2, 3, 9, 10}
    assert rows(blocks) == 3


def test_the_last_blocks_are_given_wherever_they_lie() -> None:
    device = DeviceBlocks(64)
    pages = taken(device, 64)
    device.unpin(pages[::2])
    assert taken(device, 32) == pages[::2]
    assert device.free == 0
    device.unpin(pages[:1])
    assert taken(device, 1, after=pages[-1]) == pages[:1]


@pytest.mark.parametrize("conversations", [100, 25])
def test_after_many_conversations_sequences_still_lie_in_few_rows_at_little_cost_to_the_cache(
    conversations: int,
) -> None:
    def outcome(table: Table) -> Outcome:
        return converse(table, conversations=conversations, running=8, turns=400, chance=random.Random(1))

    device = DeviceBlocks(1000)
    ours, plain = outcome(device), outcome(PlainLru(1000))
    device.check()
    assert plain.rows > 15, "otherwise there would be no need for any of this"
    assert ours.rows < 4
    assert ours.found > plain.found - 0.08
