"""Slots by rank, the lowest first: the order behind every policy that is not plain LRU.

A heap whose outdated entries are thrown away as they come to the top, or all at once when
they outnumber the others; so each change costs O(log n), amortised.
"""

from collections.abc import Container, Iterator
from heapq import heapify, heappop, heappush

Rank = tuple[int, ...]


class Ranked:
    """Each slot once, under the rank it was given last."""

    def __init__(self) -> None:
        self._ranks: dict[int, Rank] = {}
        self._heap: list[tuple[Rank, int]] = []

    def put(self, slot: int, rank: Rank) -> None:
        self._ranks[slot] = rank
        heappush(self._heap, (rank, slot))
        if len(self._heap) > 64 + 2 * len(self._ranks):
            self._heap = [(rank, slot) for slot, rank in self._ranks.items()]
            heapify(self._heap)

    def remove(self, slot: int) -> None:
        """Fine for one that is not there."""
        self._ranks.pop(slot, None)

    def first(self, spared: Container[int] = ()) -> int | None:
        """The slot of lowest rank that is not among ``spared``; linear in how many of those come before it."""
        return next(iter(self.lowest(1, spared)), None)

    def lowest(self, count: int, spared: Container[int] = ()) -> list[int]:
        """So many slots, the lowest rank first; linear in them and in how many of ``spared`` come before the last."""
        passed: dict[int, Rank] = {}
        lowest: list[int] = []
        while self._heap and len(lowest) < count:
            rank, slot = heappop(self._heap)
            if self._ranks.get(slot) != rank or slot in passed:
                continue
            passed[slot] = rank
            if slot not in spared:
                lowest.append(slot)
        for slot, rank in passed.items():
            heappush(self._heap, (rank, slot))
        return lowest

    def rank(self, slot: int) -> Rank:
        return self._ranks[slot]

    def __contains__(self, slot: int) -> bool:
        return slot in self._ranks

    def __len__(self) -> int:
        return len(self._ranks)

    def __iter__(self) -> Iterator[int]:
        """Lowest rank first."""
        return (slot for _, slot in sorted((rank, slot) for slot, rank in self._ranks.items()))
