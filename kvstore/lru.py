"""The slot used longest ago goes first.

On the paper's traces LRU beat LFU and length-aware eviction (arXiv 2407.00079, section 4.2).
"""

from collections import OrderedDict
from collections.abc import Container, Iterator
from itertools import islice

from kvstore.ranked import Ranked


class LeastRecentlyUsed:
    """By the stamp of each slot's last use.

    Nearly all uses are told in the order of their stamps, and an OrderedDict keeps those (a plain
    dict finds its first key in O(n) after many deletions at the front). A block that reaches the
    SSD some time after its last use is told late; those few are ranked apart until they are used again.
    """

    def __init__(self) -> None:
        self._order: OrderedDict[int, int] = OrderedDict()  # slot -> stamp, in the order of stamps
        self._late = Ranked()
        self._any_late = False
        self._newest = -1

    def used(self, slot: int, stamp: int, depth: int = 0, counted: bool = True) -> None:
        if stamp < self._newest:
            self._order.pop(slot, None)
            self._late.put(slot, (stamp,))
            self._any_late = True
            return
        self._newest = stamp
        self._order[slot] = stamp
        self._order.move_to_end(slot)
        if self._any_late:
            self._remove_late(slot)

    def withdraw(self, slot: int) -> None:
        self._order.pop(slot, None)
        if self._any_late:
            self._remove_late(slot)

    def forget(self, slot: int) -> None:
        self.withdraw(slot)

    def victim(self, spared: Container[int] = ()) -> int | None:
        first = None
        for first in self._order:
            if first not in spared:
                break
        else:
            first = None
        late = self._late.first(spared) if self._any_late else None
        if first is None or late is None:
            return late if first is None else first
        return late if self._late.rank(late) < (self._order[first],) else first

    def victims(self, count: int, spared: Container[int] = ()) -> list[int]:
        order = self if self._any_late else self._order
        return list(islice((slot for slot in order if slot not in spared), count))

    def _remove_late(self, slot: int) -> None:
        self._late.remove(slot)
        self._any_late = bool(self._late)

    def __contains__(self, slot: int) -> bool:
        return slot in self._order or slot in self._late

    def __len__(self) -> int:
        return len(self._order) + len(self._late)

    def __iter__(self) -> Iterator[int]:
        late = [(*self._late.rank(slot), slot) for slot in self._late]
        return (slot for _, slot in sorted([*late, *((stamp, slot) for slot, stamp in self._order.items())]))
