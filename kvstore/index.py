"""Where each sealed block is, and what came before it.

A name stands for a whole prefix but can't be turned back into its parent, so the index
remembers which name was told to follow which. That is what lets a use of a block count
as a use of everything before it. The links are hints for eviction only: a wrong or a
missing one costs cache, never a token.
"""

from collections.abc import ItemsView, Sequence
from itertools import pairwise

from kvstore.names import BlockName


class Index:
    """name -> slot; a name has at most one slot here, a slot at most one name."""

    def __init__(self) -> None:
        self._slots: dict[BlockName, int] = {}
        self._parents: dict[int, BlockName] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def get(self, name: BlockName) -> int | None:
        return self._slots.get(name)

    def items(self) -> ItemsView[BlockName, int]:
        """Every name and its slot."""
        return self._slots.items()

    def add(self, name: BlockName, slot: int, parent: BlockName | None) -> None:
        """``parent``: the name before it, where it is known."""
        assert name not in self._slots, "a name was sealed twice"
        self._slots[name] = slot
        if parent is not None:
            self._parents[slot] = parent

    def remove(self, name: BlockName) -> None:
        self._parents.pop(self._slots.pop(name), None)

    def follow(self, names: Sequence[BlockName]) -> None:
        """Learn that each of these names follows the one before it."""
        for parent, name in pairwise(names):
            slot = self._slots.get(name)
            if slot is not None:
                self._parents[slot] = parent

    def prefix(self, names: Sequence[BlockName], start: int = 0) -> list[int]:
        """The slots of the longest run of held names from ``names[start]`` on."""
        slots = []
        for position in range(start, len(names)):
            slot = self._slots.get(names[position])
            if slot is None:
                break
            slots.append(slot)
        return slots

    def leaf_first(self, slots: Sequence[int]) -> list[int]:
        """These slots and the slots of everything held before them, each once, none after an ancestor of its own.

        Of two that are not known to be related the later one comes first, so a prefix
        given in order comes back leaf first whether its links are known or not.
        Linear in the length of the answer; a hole in a prefix ends the way up.
        """
        seen: set[int] = set()
        if slots:  # nearly always one prefix, all of which lies on the way up from its leaf
            path = self._way_up(slots[-1], seen)
            if seen.issuperset(slots):
                return path
            seen.clear()
        paths = [self._way_up(slot, seen) for slot in slots]
        # A later path ends where an earlier one begins or passes, so its blocks are the further ones from the root.
        return [slot for path in reversed(paths) for slot in path]

    def _way_up(self, start: int, seen: set[int]) -> list[int]:
        """From ``start`` to what is ``seen`` already, and seen from now on; or to where no more is known."""
        path: list[int] = []
        parents, slots = self._parents, self._slots
        slot: int | None = start
        while slot is not None and slot not in seen:
            seen.add(slot)
            path.append(slot)
            parent = parents.get(slot)
            slot = None if parent is None else slots.get(parent)
        return path

    def check(self) -> None:
        """AssertionError where two names share a slot or a link hangs in the air."""
        slots = set(self._slots.values())
        assert len(slots) == len(self._slots), "two names share a slot"
        assert self._parents.keys() <= slots, "a link belongs to no block"
