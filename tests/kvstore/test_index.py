"""Where blocks are, and in which order a use of them counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.index import Index
from kvstore.names import BlockName
from tests.kvstore.builders import names


def index(text: str, *, linked: bool = True) -> Index:
    """Slot i holds the block of letter i."""
    built = Index()
    parent: BlockName | None = None
    for slot, name in enumerate(names(text)):
        built.add(name, slot, parent if linked else None)
        parent = name
    built.check()
    return built


def test_the_longest_held_prefix_ends_at_the_first_hole() -> None:
    built = index("abcde")
    built.remove(names("abc")[2])
    assert built.prefix(names("abcde")) == [0, 1]
    assert built.prefix(names("abcde"), 3) == [3, 4]
    assert built.prefix(names("xyz")) == []


def test_a_name_has_one_slot() -> None:
    built = index("a")
    with pytest.raises(AssertionError, match="sealed twice"):
        built.add(names("a")[0], 7, None)


def test_a_use_of_a_leaf_is_a_use_of_everything_before_it_root_last() -> None:
    assert index("abcd").leaf_first([3]) == [3, 2, 1, 0]


def test_a_prefix_in_order_comes_back_leaf_first_whether_its_links_are_known_or_not() -> None:
    assert index("abcd").leaf_first([0, 1, 2, 3]) == [3, 2, 1, 0]
    assert index("abcd", linked=False).leaf_first([0, 1, 2, 3]) == [3, 2, 1, 0]


def test_a_hole_ends_the_way_up_and_heals_when_it_is_filled() -> None:
    built = index("abcd")
    built.remove(names("ab")[1])
    assert built.leaf_first([3]) == [3, 2]
    built.add(names("ab")[1], 9, names("a")[0])
    assert built.leaf_first([3]) == [3, 2, 9, 0]


def test_links_are_learned_from_whoever_names_a_prefix() -> None:
    built = index("abcd", linked=False)
    built.follow(names("abcd"))
    assert built.leaf_first([3]) == [3, 2, 1, 0]


def test_a_confused_worker_can_make_a_circle_and_nobody_hangs() -> None:
    built = index("ab")
    built.follow([names("ab")[1], names("a")[0]])
    assert built.leaf_first([0]) == [0, 1]


@given(st.lists(st.integers(0, 40), max_size=41, unique=True), st.lists(st.integers(0, 39), max_size=12))
def test_no_block_comes_after_an_ancestor_of_its_own(parents: list[int], starts: list[int]) -> None:
    """A random forest: block i follows block parents[i] where that is a smaller number."""
    built, all_names = Index(), names("".join(chr(97 + number) for number in range(40)))
    above = {slot: parent for slot, parent in enumerate(parents[:40]) if parent < slot}
    for slot, name in enumerate(all_names):
        built.add(name, slot, all_names[above[slot]] if slot in above else None)
    order = built.leaf_first(starts)
    assert len(order) == len(set(order))
    assert set(starts) <= set(order)
    for slot in order:
        if slot in above:
            assert order.index(slot) < order.index(above[slot])
