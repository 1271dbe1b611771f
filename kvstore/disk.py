"""The SSD tier's table: which blocks are in the slots of one SSD file, and which go when it is full.

The table of slots is the arena's; what is a lease there is a read here: a slot that is being
read is never given to another block. A slot is granted when its block is about to be
written, and sealed when it is on the disk. A name has at most one slot. Blocks that are
dropped stay in the file until they are written over, so a later scan may find them again:
they are still what their names say.
"""

from array import array
from collections.abc import Iterable

from kvstore.changes import NameChanges
from kvstore.eviction import EvictionPolicy
from kvstore.names import BlockName
from kvstore.slots import Slots, SlotState
from kvstore.vocabulary import DiskEntry, SlotRef


class DiskBlocks:
    """``total`` slots. block_tokens: in every block, as short ones never come here."""

    def __init__(self, total: int, block_tokens: int, policy: EvictionPolicy, changes: NameChanges) -> None:
        self.slots = Slots(total)
        self.changes = changes
        self.evicted = 0
        self.torn = 0
        """Blocks that were not intact when they were read."""
        self.lost_pending = 0
        """Blocks that were evicted from DRAM before they were written."""
        self.block_tokens = block_tokens
        self._policy = policy
        self._held: dict[BlockName, int] = {}
        self._names: list[BlockName | None] = [None] * total
        self._checksums = array("Q", bytes(8 * total))
        self._reading: set[int] = set()
        self._writing: set[int] = set()
        self._disowned: set[int] = set()  # being read or written, and dropped otherwise

    def __contains__(self, name: BlockName) -> bool:
        return name in self._held

    def __len__(self) -> int:
        return len(self._held)

    # What was there before

    def find(self, entries: Iterable[DiskEntry], stamp: int) -> int:
        """Take over what a scan found, or some of it, the block used longest ago first; returns the next stamp.

        Of two with one name the later counts. What can't be one of our blocks is left out.
        """
        total, tokens, slots = self.slots.total, self.block_tokens, self.slots
        for entry in entries:
            if entry.tokens != tokens or not 0 <= entry.slot < total or not slots.is_free(entry.slot):
                continue
            if (older := self._held.get(entry.name)) is not None:
                self.drop(older)
            slots.find(entry.slot)
            self._checksums[entry.slot] = entry.checksum
            self._hold(entry.name, entry.slot, stamp, 0)
            stamp += 1
        return stamp

    def entries(self) -> list[DiskEntry]:
        """Every block that can be read back, the one that would go next first."""
        return [
            DiskEntry(slot, name, self._checksums[slot], self.block_tokens)
            for slot in self._policy
            if (name := self._names[slot]) is not None
        ]

    # Writing

    def grant(self, name: BlockName, checksum: int) -> SlotRef | None:
        """A slot to write this block to, evicting for it if need be. None: all are being read or written."""
        assert name not in self._held, "a block is written to the disk once"
        if not self.slots.free and (victim := self._policy.victim(self._reading)) is not None:
            self.drop(victim)
            self.evicted += 1
        slot = self.slots.allocate()
        if slot is None:
            return None
        self._writing.add(slot)
        self._names[slot] = name
        self._checksums[slot] = checksum
        return SlotRef(slot, self.slots.generation(slot))

    def written(self, slot: int, *, done: bool, stamp: int, depth: int) -> bool:
        """Whether it is held from now on: not if the writing failed, or all was dropped meanwhile.

        stamp: of its last use, perhaps some time ago.
        """
        self._writing.remove(slot)
        name = self._names[slot]
        if done and name is not None and slot not in self._disowned:
            self.slots.seal(slot)
            self._hold(name, slot, stamp, depth)
            return True
        self.slots.discard(slot)
        self._names[slot] = None
        self._disowned.discard(slot)
        return False

    # Reading

    def read(self, name: BlockName) -> tuple[SlotRef, int]:
        """Where a held block is, and its checksum; it stays there until ``read_ended``."""
        slot = self._held[name]
        self.slots.lease(slot)
        self._reading.add(slot)
        return SlotRef(slot, self.slots.generation(slot)), self._checksums[slot]

    def read_ended(self, slot: int, *, intact: bool) -> None:
        """A block that is not intact is dropped."""
        if not self.slots.release(slot):
            self._reading.remove(slot)
        if slot in self._disowned:
            if slot not in self._reading:
                self._disowned.remove(slot)
                self._vacate(slot)
        elif not intact:
            self.torn += 1
            self.drop(slot)

    def used(self, name: BlockName, stamp: int, depth: int, counted: bool) -> None:
        """It was used, here or in DRAM; fine for one that is not held here."""
        slot = self._held.get(name)
        if slot is not None:
            self._policy.used(slot, stamp, depth, counted)

    # Dropping

    def drop(self, slot: int) -> None:
        """Its name is gone at once; the slot too, unless it is being read: then with the last read."""
        name = self._names[slot]
        assert name is not None, f"slot {slot} holds nothing"
        self._policy.forget(slot)
        del self._held[name]
        self.changes.lose(name)
        if slot in self._reading:
            self._disowned.add(slot)
        else:
            self._vacate(slot)

    def reset(self) -> None:
        """Drop everything; what is being read or written, once that has ended."""
        for slot in list(self._held.values()):
            self.drop(slot)
        self._disowned |= self._writing

    def names(self) -> list[BlockName]:
        return list(self._held)

    def check(self) -> None:
        """Assert the conservation laws, counting everything anew."""
        self.slots.check()
        states = [self.slots.state(slot) for slot in range(self.slots.total)]
        sealed = {slot for slot, state in enumerate(states) if state is SlotState.SEALED}
        assert len(set(self._held.values())) == len(self._held), "two names share a slot of the disk"
        assert set(self._held.values()) == sealed - self._disowned, "a block on the disk can't be found"
        assert all(self._names[slot] == name for name, slot in self._held.items()), "a slot has another name"
        used = {slot for slot, name in enumerate(self._names) if name is not None}
        assert used == {slot for slot, state in enumerate(states) if state is not SlotState.FREE}, "a name was left"
        writing = {slot for slot, state in enumerate(states) if state is SlotState.WRITING}
        assert writing == self._writing, "slots being written are not those known to be"
        reading = {slot for slot in sealed if self.slots.leases_on(slot)}
        assert reading == self._reading, "slots being read are not those known to be"
        assert all(states[slot] is not SlotState.FREE for slot in self._disowned), "a free slot waits to become free"
        assert set(self._policy) == set(self._held.values()), "what can be evicted is not what is held"

    def _hold(self, name: BlockName, slot: int, stamp: int, depth: int) -> None:
        self._held[name] = slot
        self._names[slot] = name
        self._policy.used(slot, stamp, depth, counted=False)
        self.changes.gain(name)

    def _vacate(self, slot: int) -> None:
        self.slots.drop(slot)
        self._names[slot] = None
