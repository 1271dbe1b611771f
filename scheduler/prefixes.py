"""Which store holds how long a prefix: an index over the names that stores report.

One integer of bits per name, a bit per store, so that one walk along a prompt answers for all stores at
once: the bits that are still set after i names belong to the stores that hold all i.
"""

from collections.abc import Iterable, Sequence

from kvstore.names import BlockName
from scheduler.vocabulary import StoreId


class PrefixIndex:
    """What is believed of all stores' names. A store that is forgotten gives its bit to the next one."""

    def __init__(self) -> None:
        self._holders: dict[BlockName, int] = {}
        self._names: dict[StoreId, set[BlockName]] = {}
        self._bits: dict[StoreId, int] = {}

    def gained(self, store: StoreId, names: Iterable[BlockName]) -> None:
        held, bit = self._names.setdefault(store, set()), self._bit(store)
        for name in names:
            held.add(name)
            self._holders[name] = self._holders.get(name, 0) | bit

    def lost(self, store: StoreId, names: Iterable[BlockName]) -> None:
        held, bit = self._names.setdefault(store, set()), self._bit(store)
        for name in names:
            if name in held:
                held.discard(name)
                self._take_away(name, bit)

    def forget(self, store: StoreId) -> None:
        """Everything that was believed of this store."""
        bit = self._bits.pop(store, 0)
        for name in self._names.pop(store, ()):
            self._take_away(name, bit)

    def longest(self, names: Sequence[BlockName]) -> dict[StoreId, int]:
        """How many leading names each store holds; stores that hold none of them are left out."""
        lengths: dict[int, int] = {}
        alive = 0
        for length, name in enumerate(names):
            holders = self._holders.get(name, 0)
            kept = holders if length == 0 else alive & holders
            if kept != alive:
                lengths[alive & ~kept] = length
            alive = kept
            if not alive:
                break
        lengths[alive] = len(names)
        return {
            store: length for store, bit in self._bits.items() for dropped, length in lengths.items() if dropped & bit
        }

    def held(self, store: StoreId) -> int:
        """How many names this store is believed to hold."""
        return len(self._names.get(store, ()))

    def _bit(self, store: StoreId) -> int:
        if store not in self._bits:
            used = 0
            for bit in self._bits.values():
                used |= bit
            self._bits[store] = ~used & (used + 1)  # the lowest that is not set
        return self._bits[store]

    def _take_away(self, name: BlockName, bit: int) -> None:
        holders = self._holders[name] & ~bit
        if holders:
            self._holders[name] = holders
        else:
            del self._holders[name]
