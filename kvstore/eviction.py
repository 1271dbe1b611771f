"""Which slot goes first when room is needed.

A policy keeps an order among the slots that may go: sealed ones that nobody leases. It
is told of every use and gives one victim at a time; it knows neither names nor leases
nor what becomes of a victim, so that the next tier can be asked before a block is lost.
"""

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil
from typing import Protocol


class EvictionPolicy(Protocol):
    """An order among evictable slots. Every method is O(1), amortised."""

    def used(self, slot: int) -> None:
        """The slot was used just now and may be evicted from now on (or still)."""
        ...

    def withdraw(self, slot: int) -> None:
        """The slot is leased or gone: no longer a candidate. Fine for one that is none."""
        ...

    def victim(self) -> int | None:
        """Who goes next; stays a candidate until withdrawn. None where there is no candidate."""
        ...

    def __contains__(self, slot: int) -> bool: ...

    def __len__(self) -> int: ...


class LeastRecentlyUsed:
    """The one used longest ago goes first.

    On the paper's traces LRU beat LFU and length-aware eviction (arXiv 2407.00079,
    section 4.2). An OrderedDict because a plain dict finds its first key in O(n) after
    many deletions at the front.
    """

    def __init__(self) -> None:
        self._order: OrderedDict[int, None] = OrderedDict()

    def used(self, slot: int) -> None:
        self._order[slot] = None
        self._order.move_to_end(slot)

    def withdraw(self, slot: int) -> None:
        self._order.pop(slot, None)

    def victim(self) -> int | None:
        return next(iter(self._order), None)

    def __contains__(self, slot: int) -> bool:
        return slot in self._order

    def __len__(self) -> int:
        return len(self._order)


@dataclass(frozen=True, slots=True)
class Watermarks:
    """Shares of all slots that should be free: eviction begins under ``low`` and goes on up to ``high``."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"watermarks need 0 <= low <= high <= 1, not {self.low} and {self.high}")

    def low_slots(self, total: int) -> int:
        """Rounded down, so that a tiny arena has none and is used to its last slot."""
        return int(self.low * total)

    def high_slots(self, total: int) -> int:
        return ceil(self.high * total)
