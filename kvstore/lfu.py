"""The slot used least often goes first; of equals, the one used longest ago."""

from collections.abc import Container, Iterator

from kvstore.ranked import Rank, Ranked


class LeastFrequentlyUsed:
    """Uses are counted for as long as the tier holds the block."""

    def __init__(self) -> None:
        self._uses: dict[int, int] = {}
        self._ranked = Ranked()

    def used(self, slot: int, stamp: int, depth: int = 0, counted: bool = True) -> None:
        uses = self._uses.get(slot, 0)
        if counted or not uses:
            uses += 1
            self._uses[slot] = uses
        self._ranked.put(slot, self._rank(uses, stamp, depth))

    def withdraw(self, slot: int) -> None:
        self._ranked.remove(slot)

    def forget(self, slot: int) -> None:
        self._ranked.remove(slot)
        self._uses.pop(slot, None)

    def victim(self, spared: Container[int] = ()) -> int | None:
        return self._ranked.first(spared)

    def victims(self, count: int, spared: Container[int] = ()) -> list[int]:
        return self._ranked.lowest(count, spared)

    def __contains__(self, slot: int) -> bool:
        return slot in self._ranked

    def __len__(self) -> int:
        return len(self._ranked)

    def __iter__(self) -> Iterator[int]:
        return iter(self._ranked)

    def _rank(self, uses: int, stamp: int, depth: int) -> Rank:
        return uses, stamp
