"""Which slot goes first when room is needed.

A policy keeps an order among the slots that may go: sealed ones that nobody leases. It
is told of every use and names those who go next; it knows neither names nor leases
nor what becomes of a victim. Both tiers run the same policies, and so does the simulator.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from kvstore.length_aware import LengthAware
from kvstore.lfu import LeastFrequentlyUsed
from kvstore.lru import LeastRecentlyUsed

__all__ = [
    "POLICIES",
    "EvictionPolicy",
    "LeastFrequentlyUsed",
    "LeastRecentlyUsed",
    "LengthAware",
    "Watermarks",
    "policy",
]


class EvictionPolicy(Protocol):
    """An order among evictable slots. Every method but ``__iter__`` is O(log n) or better for each slot, amortised."""

    def used(self, slot: int, stamp: int, depth: int = 0, counted: bool = True) -> None:
        """The slot may be evicted from now on (or still).

        stamp: of its last use; a larger one is later. Mostly now, so larger than any told before;
        smaller where a block came to this tier some time after it was used. depth: how many blocks
        of its prefix come before it, as far as is known. counted: it was read, not just touched.
        """
        ...

    def withdraw(self, slot: int) -> None:
        """The slot is leased: no candidate until its next use. Fine for one that is none."""
        ...

    def forget(self, slot: int) -> None:
        """The slot's block is gone."""
        ...

    def victim(self, spared: Container[int] = ()) -> int | None:
        """Who goes next, leaving out ``spared``; stays a candidate until withdrawn. None where there is no candidate.

        Linear in how many of ``spared`` would have gone before; those are few.
        """
        ...

    def victims(self, count: int, spared: Container[int] = ()) -> list[int]:
        """The next so many to go, whoever goes next first; all stay candidates. Fewer where there are no more."""
        ...

    def __contains__(self, slot: int) -> bool: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[int]:
        """Every candidate, whoever goes next first."""
        ...


POLICIES: dict[str, type[LeastRecentlyUsed] | type[LeastFrequentlyUsed]] = {
    "lru": LeastRecentlyUsed,
    "lfu": LeastFrequentlyUsed,
    "length-aware": LengthAware,
}


def policy(name: str) -> EvictionPolicy:
    """A new one, by the name that settings use. ValueError for a name that there is not."""
    if name not in POLICIES:
        raise ValueError(f"there is no eviction policy {name!r}; choose from {', '.join(POLICIES)}")
    return POLICIES[name]()


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
