"""The blocks in one arena's slots: which are held, which may be evicted, what was gained and lost.

This is the DRAM tier's table. It knows how many leases a block has but not whose, and that
a block is being written but not by whom: sessions are the catalog's. Evictable are exactly
the sealed blocks that nobody leases; a short block is never evictable, since it is dropped
with its last lease. A use of a block is a use of all blocks before it, leaf first and root
last, so that the policy always drops tails before heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.eviction import EvictionPolicy, Watermarks
from kvstore.index import Index
from kvstore.names import BlockName
from kvstore.slots import Slots, SlotState
from kvstore.vocabulary import Changes, Lease


@dataclass(slots=True)
class Block:
    """What a slot in use holds.

    parent: the name before it, where it is known. short: serves a hand-over only. hold:
    to be leased to its writer as it is sealed. granted_at: since when it is being
    written, monotonic seconds.
    """

    name: BlockName
    parent: BlockName | None
    short: bool
    hold: bool
    granted_at: float
    checksum: int = 0


class Blocks:
    """``total`` slots and what is in them."""

    def __init__(self, total: int, policy: EvictionPolicy, watermarks: Watermarks) -> None:
        self.slots = Slots(total)
        self.index = Index()
        """Sealed blocks only."""
        self.evicted = 0
        self._policy = policy
        self._watermarks = watermarks
        self._reclaiming = False
        self._blocks: dict[int, Block] = {}  # one for each slot that is not free
        self._gained: dict[BlockName, None] = {}
        self._lost: dict[BlockName, None] = {}

    def __getitem__(self, slot: int) -> Block:
        return self._blocks[slot]

    @property
    def evictable(self) -> int:
        return len(self._policy)

    # Writing

    def grant(self, block: Block) -> int | None:
        """A slot to write this block to, evicting for it if need be. None: everything is leased or half-written."""
        if not self.slots.free and (victim := self._policy.victim()) is not None:
            self._evict(victim)
        slot = self.slots.allocate()
        if slot is not None:
            self._blocks[slot] = block
        return slot

    def reclaim(self, granted: int) -> None:
        """Evict ahead of need, at most two slots for each one granted, so that no single call pays for a backlog."""
        if self.slots.free < self._watermarks.low_slots(self.slots.total):
            self._reclaiming = True
        high = self._watermarks.high_slots(self.slots.total)
        for _ in range(2 * granted if self._reclaiming else 0):
            victim = self._policy.victim()
            if victim is None or self.slots.free >= high:
                self._reclaiming = False
                return
            self._evict(victim)

    def seal(self, slot: int, checksum: int) -> Block:
        """It is held from now on; ``settle`` it once whoever is to have a lease on it has one."""
        self.slots.seal(slot)
        block = self._blocks[slot]
        block.checksum = checksum
        self.index.add(block.name, slot, block.parent)
        if not block.short:
            self._changed(block.name, into=self._gained, out_of=self._lost)
        return block

    def discard(self, slot: int) -> Block:
        self.slots.discard(slot)
        return self._blocks.pop(slot)

    # Reading

    def lease(self, slot: int) -> Lease:
        if self.slots.lease(slot) == 1:
            self._policy.withdraw(slot)
        return Lease(slot, self.slots.generation(slot), self._blocks[slot].checksum)

    def release(self, slot: int) -> None:
        """One lease less; ``settle`` it afterwards."""
        self.slots.release(slot)

    def settle(self, slots: Sequence[int]) -> None:
        """These sealed blocks were used, and so was all before them. Without a lease a short one is dropped.

        slots: of one prefix, in order.
        """
        for slot in self.index.leaf_first(slots):
            if not self.slots.leases_on(slot):
                if self._blocks[slot].short:
                    self._drop(slot)
                else:
                    self._policy.used(slot)

    # What others want to know

    def reset(self) -> int:
        """Drop everything that is evictable; returns how many there were."""
        dropped = 0
        while (slot := self._policy.victim()) is not None:
            self._drop(slot)
            dropped += 1
        return dropped

    def names(self) -> list[BlockName]:
        """Of every sealed block but the short ones."""
        return [block.name for slot, block in self._blocks.items() if not block.short and self._is_sealed(slot)]

    def changes(self) -> Changes:
        """What was gained and lost since this was last asked; short blocks never count."""
        changes = Changes(tuple(self._gained), tuple(self._lost))
        self._gained.clear()
        self._lost.clear()
        return changes

    def check(self) -> None:
        """Assert the conservation laws, counting everything anew."""
        self.slots.check()
        self.index.check()
        used = {slot for slot in range(self.slots.total) if self.slots.state(slot) is not SlotState.FREE}
        assert self._blocks.keys() == used, "a slot in use has no block, or a free one has"
        sealed = {slot for slot in used if self._is_sealed(slot)}
        assert {self.index.get(self._blocks[slot].name) for slot in sealed} == sealed, "a sealed block can't be found"
        assert len(self.index) == len(sealed), "the index knows a block that is not sealed"
        idle = {slot for slot in sealed if not self.slots.leases_on(slot)}
        assert all(slot in self._policy for slot in idle), "a block that nobody leases can't be evicted"
        assert len(self._policy) == len(idle), "a block that is leased, half-written or gone can be evicted"
        assert not any(self._blocks[slot].short for slot in idle), "a short block outlived its leases"
        assert not self._gained.keys() & self._lost.keys(), "a name was both gained and lost"

    def _is_sealed(self, slot: int) -> bool:
        return self.slots.state(slot) is SlotState.SEALED

    def _evict(self, slot: int) -> None:
        """The one place where room is made: what a lower tier should keep is to be copied before it."""
        self._drop(slot)
        self.evicted += 1

    def _drop(self, slot: int) -> None:
        self._policy.withdraw(slot)
        self.slots.drop(slot)
        block = self._blocks.pop(slot)
        self.index.remove(block.name)
        if not block.short:
            self._changed(block.name, into=self._lost, out_of=self._gained)

    @staticmethod
    def _changed(name: BlockName, *, into: dict[BlockName, None], out_of: dict[BlockName, None]) -> None:
        """Gained and lost again since last asked is nothing to tell."""
        if name in out_of:
            del out_of[name]
        else:
            into[name] = None
