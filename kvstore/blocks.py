"""The DRAM tier's table: which blocks are in one arena's slots, and which of them may be evicted.

It knows how many leases a block has but not whose, and that a block is being written but
not by whom: sessions are the catalog's. Evictable are exactly the sealed blocks that nobody
leases; a short block is never evictable, since it is dropped with its last lease. A pin is
a lease of the store's own, for the time of a copy to the SSD: it keeps a block from being
dropped, but changes nothing about when it is to go.
"""

from dataclasses import dataclass

from kvstore.changes import NameChanges
from kvstore.digest import digest_of
from kvstore.eviction import EvictionPolicy
from kvstore.index import Index
from kvstore.names import BlockName
from kvstore.slots import Slots, SlotState
from kvstore.vocabulary import Lease, SlotRef, Tier


@dataclass(slots=True)
class Block:
    """What a slot in use holds.

    parent: the name before it, where it is known. depth: how many blocks come before it, as
    far as is known. short: serves a hand-over only. hold: to be leased to its writer as it is
    sealed. granted_at: since when it is being written, monotonic seconds. via: where it comes
    from; DRAM means that somebody computed it, or pushed it here. stamp: of its last use.
    """

    name: BlockName
    parent: BlockName | None
    short: bool
    hold: bool
    granted_at: float
    via: Tier = Tier.DRAM
    depth: int = 0
    checksum: int = 0
    stamp: int = 0


class Blocks:
    """No slots at first; ``furnish`` brings them."""

    def __init__(self, policy: EvictionPolicy) -> None:
        self.slots = Slots(0)
        self.index = Index()
        """Sealed blocks only."""
        self.pinned: set[int] = set()
        self.changes = NameChanges()
        """Of full blocks; short ones never count."""
        self._policy = policy
        self._blocks: dict[int, Block] = {}  # one for each slot that is not free
        self._disowned: set[int] = set()  # pinned, and dropped otherwise

    def furnish(self, total: int) -> None:
        self.slots = Slots(total)

    def __getitem__(self, slot: int) -> Block:
        return self._blocks[slot]

    def holds(self, slot: int) -> bool:
        """Whether its block can be found; not once it was dropped, though a pin may keep its bytes."""
        return slot not in self._disowned

    @property
    def evictable(self) -> int:
        return len(self._policy)

    @property
    def leases(self) -> int:
        """Of sessions; pins are none."""
        return self.slots.leases - len(self.pinned)

    def ref(self, slot: int) -> SlotRef:
        return SlotRef(slot, self.slots.generation(slot))

    # Writing

    def grant(self, block: Block) -> int | None:
        """A free slot to write this block to; None where there is none."""
        slot = self.slots.allocate()
        if slot is not None:
            self._blocks[slot] = block
        return slot

    def seal(self, slot: int, checksum: int) -> Block:
        """It is held from now on; ``settle`` it once whoever is to have a lease on it has one."""
        self.slots.seal(slot)
        block = self._blocks[slot]
        block.checksum = checksum
        self.index.add(block.name, slot, block.parent)
        if not block.short:
            self.changes.gain(block.name)
        return block

    def discard(self, slot: int) -> Block:
        self.slots.discard(slot)
        return self._blocks.pop(slot)

    # Reading

    def lease(self, slot: int) -> Lease:
        self.keep(slot)
        return Lease(slot, self.slots.generation(slot), self._blocks[slot].checksum)

    def keep(self, slot: int) -> None:
        """The same for whoever knows where it is."""
        leases = self.slots.lease(slot)
        if leases <= 2 and leases == 1 + (slot in self.pinned):
            self._policy.withdraw(slot)

    def release(self, slot: int) -> None:
        """One lease less; ``settle`` it afterwards."""
        self.slots.release(slot)

    def settle(self, slot: int, stamp: int, *, counted: bool) -> Block | None:
        """This sealed block was used, at ``stamp``. Without a lease a short one is dropped: None."""
        block = self._blocks[slot]
        if self.slots.leases_on(slot) == (slot in self.pinned):
            if block.short:
                self.drop(slot)
                return None
            self._policy.used(slot, stamp, block.depth, counted)
        block.stamp = stamp
        return block

    def pin(self, slot: int) -> None:
        """Keep it from being dropped; it stays where it is in the order of eviction."""
        assert slot not in self.pinned, "a block is copied once at a time"
        self.slots.lease(slot)
        self.pinned.add(slot)

    def unpin(self, slot: int) -> None:
        self.pinned.remove(slot)
        self.slots.release(slot)
        if slot in self._disowned:
            self._disowned.remove(slot)
            self.slots.drop(slot)
            del self._blocks[slot]

    # Dropping

    def victim(self) -> int | None:
        """Who goes next; never one that is pinned."""
        return self._policy.victim(self.pinned)

    def victims(self, count: int) -> list[int]:
        """The next so many to go, in this order; fewer where there are no more."""
        return self._policy.victims(count, self.pinned)

    def drop(self, slot: int) -> Block:
        """Its name is gone at once; the slot too, unless it is pinned: then with its pin."""
        self._policy.forget(slot)
        block = self._blocks[slot]
        self.index.remove(block.name)
        if slot in self.pinned:
            self._disowned.add(slot)
        else:
            self.slots.drop(slot)
            del self._blocks[slot]
        if not block.short:
            self.changes.lose(block.name)
        return block

    def idle(self) -> list[int]:
        """Every evictable slot, pinned ones included, whoever goes next first."""
        return list(self._policy)

    # What others want to know

    def names(self) -> list[BlockName]:
        """Of every sealed block but the short ones."""
        return [name for name, slot in self.index.items() if not self._blocks[slot].short]

    def check(self) -> None:
        """Assert the conservation laws, counting everything anew."""
        self.slots.check()
        self.index.check()
        self.changes.check()
        assert self.changes.digest == digest_of(self.names()), "the digest of the names is not that of what is held"
        used = {slot for slot in range(self.slots.total) if self.slots.state(slot) is not SlotState.FREE}
        assert self._blocks.keys() == used, "a slot in use has no block, or a free one has"
        sealed = {slot for slot in used if self.slots.state(slot) is SlotState.SEALED}
        assert self._disowned <= self.pinned <= sealed, "a slot is pinned that has nothing to copy"
        held = sealed - self._disowned
        assert {self.index.get(self._blocks[slot].name) for slot in held} == held, "a sealed block can't be found"
        assert len(self.index) == len(held), "the index knows a block that is not sealed"
        idle = {slot for slot in held if self.slots.leases_on(slot) == (slot in self.pinned)}
        assert all(slot in self._policy for slot in idle), "a block that nobody leases can't be evicted"
        assert len(self._policy) == len(idle), "a block that is leased, half-written or gone can be evicted"
        assert not any(self._blocks[slot].short for slot in idle), "a short block outlived its leases"
