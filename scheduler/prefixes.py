"""Which store holds how long a prefix, and in which tier: an index over the names that stores report.

One integer of bits per name, two bits per store (in DRAM, on the SSD), so that one walk along a prompt
answers for all stores at once: the bits that are still set after i names belong to the stores that hold
all i. A store that is forgotten loses its bits at once and its names bit by bit, in ``sweep``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvstore.digest import NamesDigest
from kvstore.names import BlockName
from scheduler.vocabulary import Digests, StoreId

Counts = NDArray[np.int64]

SHARDS = 256
"""Names are kept in as many tables, by their first byte: a table of a million names takes 40 ms to grow, 1/256 of it
takes 0.1 ms, and a sweep can stop between two of them."""

SHARED = 1 << 16
"""So many different integers are kept to be shared by the names that have them; with 1,000 stores one is 290 bytes."""

FEW = 16
"""Up to so many masks are multiplied by their lengths; more are repeated and summed as bytes, which takes 80 us for 256
masks of 1,000 stores instead of 250."""

MOST = 255
"""Bits that a byte can count."""

NO_STORE = -1
"""The place of no store: what is looked up there is 0."""


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What stores hold of one prompt's names, by ``PrefixIndex.place(store)``; the last entry is no store's, and 0.

    held: leading names in DRAM or on the SSD. ssd: of them, those that are on the SSD only.
    """

    held: Counts
    ssd: Counts


class PrefixIndex:
    """What is believed of all stores' names."""

    def __init__(self) -> None:
        self._shards: list[dict[BlockName, int]] = [{} for _ in range(SHARDS)]
        self._places: dict[StoreId, int] = {}
        self._held: dict[StoreId, tuple[NamesDigest, NamesDigest]] = {}
        """In DRAM, on the SSD."""
        self._free: list[int] = []
        self._retired: list[tuple[int, int]] = []
        """Places of forgotten stores, and how many shards are still to be swept for each."""
        self._next_shard = 0
        self._width = 0
        self._live = 0
        self._shared: dict[int, int] = {}

    # -- facts --------------------------------------------------------------------------------------------------

    def gained(self, store: StoreId, names: Iterable[BlockName], *, ssd: bool = False) -> None:
        bit, shards, share = self._bit(store, ssd), self._shards, self._share
        new: list[BlockName] = []
        for name in names:
            shard = shards[name[0]]
            holders = shard.get(name, 0)
            if not holders & bit:
                shard[name] = share(holders | bit)
                new.append(name)
        self._held[store][ssd].gained(new)

    def lost(self, store: StoreId, names: Iterable[BlockName], *, ssd: bool = False) -> None:
        bit, shards, share = self._bit(store, ssd), self._shards, self._share
        gone: list[BlockName] = []
        for name in names:
            shard = shards[name[0]]
            holders = shard.get(name, 0)
            if holders & bit:
                gone.append(name)
                if holders == bit:
                    del shard[name]
                else:
                    shard[name] = share(holders ^ bit)
        self._held[store][ssd].lost(gone)

    def forget(self, store: StoreId) -> None:
        """Everything that was believed of this store. Its place is given to another once all shards are swept."""
        place = self._places.pop(store, None)
        if place is None:
            return
        del self._held[store]
        self._live ^= 1 << 2 * place
        self._retired.append((place, SHARDS))
        if len(self._retired) > max(8, len(self._places)):
            self.sweep(SHARDS)  # nobody sweeps, or many come and go: integers must not widen without end

    def sweep(self, shards: int = 8) -> None:
        """Take the names of forgotten stores out of the next few shards. Costs nothing where nobody was forgotten."""
        for _ in range(min(shards, SHARDS)):
            if not self._retired:
                return
            kept = ~sum(0b11 << 2 * place for place, _ in self._retired)
            shard = self._shards[self._next_shard]
            for name in [name for name, holders in shard.items() if holders & ~kept]:
                holders = shard[name] & kept
                if holders:
                    shard[name] = self._share(holders)
                else:
                    del shard[name]
            self._next_shard = (self._next_shard + 1) % SHARDS
            if all(left > 1 for _, left in self._retired):
                self._retired = [(place, left - 1) for place, left in self._retired]
                continue
            clean = [place for place, left in self._retired if left == 1]
            self._retired = [(place, left - 1) for place, left in self._retired if left > 1]
            self._free = sorted((*self._free, *clean), reverse=True)

    # -- what follows -------------------------------------------------------------------------------------------

    def place(self, store: StoreId | None) -> int:
        """Where ``Prefixes`` has this store's numbers; NO_STORE where it has never reported a name."""
        return NO_STORE if store is None else self._places.get(store, NO_STORE)

    def longest(self, names: Sequence[BlockName]) -> Prefixes:
        """How many leading names each store holds, and in which tier."""
        shards, alive = self._shards, self._live
        # Of each run of names between which nothing changes:
        held: list[int] = []
        dram: list[int] = []
        lengths: list[int] = []
        before = (0, 0)
        for name in names:
            holders = shards[name[0]].get(name, 0)
            alive &= holders | holders >> 1
            if not alive:
                break
            now = (alive, alive & holders)
            if now == before:
                lengths[-1] += 1
                continue
            held.append(now[0])
            dram.append(now[1])
            lengths.append(1)
            before = now
        counted = self._count(held, lengths)
        in_dram = counted if dram == held else self._count(dram, lengths)
        return Prefixes(counted, counted - in_dram)

    def lengths(self, names: Sequence[BlockName]) -> dict[StoreId, int]:
        """How many leading names each store holds, in whichever tier; stores that hold none are left out."""
        held = self.longest(names).held
        return {store: int(held[place]) for store, place in self._places.items() if held[place]}

    def held(self, store: StoreId, *, ssd: bool = False) -> int:
        """How many names this store is believed to hold."""
        return self._held[store][ssd].names if store in self._held else 0

    def digests(self, store: StoreId) -> Digests:
        """What all that is believed of this store comes to."""
        dram, ssd = self._held.get(store, (NamesDigest(), NamesDigest()))
        return Digests(dram.tell(), ssd.tell())

    def __len__(self) -> int:
        """Names that somebody holds, and of forgotten stores those that are not swept yet."""
        return sum(map(len, self._shards))

    # -- bits ---------------------------------------------------------------------------------------------------

    def _bit(self, store: StoreId, ssd: bool) -> int:
        place = self._places.get(store)
        if place is None:
            if self._free:
                place = self._free.pop()
            else:
                place, self._width = self._width, self._width + 1
            self._places[store] = place
            self._held[store] = NamesDigest(), NamesDigest()
            self._live |= 1 << 2 * place
        return 1 << 2 * place + ssd

    def _share(self, holders: int) -> int:
        """An equal integer, the same object for most names that have it."""
        if len(self._shared) > SHARED:
            self._shared = {}
        return self._shared.setdefault(holders, holders)

    def _count(self, masks: list[int], lengths: list[int]) -> Counts:
        """[places + 1]: over how many names each place's bit is set, given masks that hold for so many names each."""
        counted = np.zeros(self._width + 1, dtype=np.int64)
        if not masks:
            return counted
        size = (2 * self._width + 7) // 8
        packed = np.frombuffer(b"".join([mask.to_bytes(size, "little") for mask in masks]), np.uint8).reshape(-1, size)
        if len(masks) <= FEW:
            bits = np.unpackbits(packed, axis=1, bitorder="little")[:, : 2 * self._width : 2]
            counted[:-1] = np.asarray(lengths, np.float32) @ bits.astype(np.float32)
            return counted
        packed = np.repeat(packed, lengths, axis=0)
        for start in range(0, len(packed), MOST):
            bits = np.unpackbits(packed[start : start + MOST], axis=1, bitorder="little")
            counted[:-1] += np.add.reduce(bits, axis=0, dtype=np.uint8)[: 2 * self._width : 2]
        return counted
