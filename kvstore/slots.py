"""The slots of an arena as a table-driven state machine.

Knows which slots are free, being written or sealed, how often each is leased, and which
tenancy of a slot is the present one; not what is in them, nor who writes or reads it.
Always ``free + writing + sealed == total``; a leased slot is sealed.

    free --allocate--> writing --seal--> sealed --drop--> free
                         |             (lease, release: leased n times)
                         +---discard---> free
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise


class SlotState(StrEnum):
    FREE = "free"
    WRITING = "writing"
    """One session writes it; nobody may read it."""
    SEALED = "sealed"
    """Complete and never written again; leased by any number of readers."""


class SlotEvent(StrEnum):
    ALLOCATE = "allocate"
    SEAL = "seal"
    DISCARD = "discard"
    """The writer gave up, or is gone."""
    LEASE = "lease"
    RELEASE = "release"
    """Ends one lease; illegal without one."""
    DROP = "drop"
    """Evicted, reset, or a short block's last lease has ended; illegal while leased."""


NEXT: dict[tuple[SlotState, SlotEvent], SlotState] = {
    (SlotState.FREE, SlotEvent.ALLOCATE): SlotState.WRITING,
    (SlotState.WRITING, SlotEvent.SEAL): SlotState.SEALED,
    (SlotState.WRITING, SlotEvent.DISCARD): SlotState.FREE,
    (SlotState.SEALED, SlotEvent.LEASE): SlotState.SEALED,
    (SlotState.SEALED, SlotEvent.RELEASE): SlotState.SEALED,
    (SlotState.SEALED, SlotEvent.DROP): SlotState.FREE,
}
"""What is not in here is illegal."""


class IllegalSlotEvent(AssertionError):
    """A bug of the caller; the slot is as it was."""


@dataclass(slots=True)
class _Slot:
    state: SlotState = SlotState.FREE
    generation: int = 1
    leases: int = 0


class Slots:
    """``total`` slots, numbered from 0, all free at first.

    A slot's generation goes up when it becomes free, so whoever still knows it by its old
    generation is told apart from that moment on. Generations start at 1; 0 is nobody's.
    """

    def __init__(self, total: int) -> None:
        self._slots = [_Slot() for _ in range(total)]
        # A stack: the slot freed last is written next, while its pages are still in the caches.
        self._free = list(range(total - 1, -1, -1))
        self._writing = 0
        self._leases = 0

    @property
    def total(self) -> int:
        return len(self._slots)

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def writing(self) -> int:
        return self._writing

    @property
    def sealed(self) -> int:
        return len(self._slots) - len(self._free) - self._writing

    @property
    def leases(self) -> int:
        """Leases on all slots together."""
        return self._leases

    def state(self, slot: int) -> SlotState:
        return self._slots[slot].state

    def generation(self, slot: int) -> int:
        return self._slots[slot].generation

    def leases_on(self, slot: int) -> int:
        return self._slots[slot].leases

    def is_current(self, slot: int, generation: int) -> bool:
        """Whether ``generation`` is the slot's present tenancy. False, too, for slots that don't exist."""
        if not 0 <= slot < len(self._slots):
            return False
        record = self._slots[slot]
        return record.generation == generation and record.state is not SlotState.FREE

    def allocate(self) -> int | None:
        """A slot to write, or None where no slot is free."""
        if not self._free:
            return None
        slot = self._free[-1]
        self._step(slot, SlotEvent.ALLOCATE)
        self._free.pop()
        self._writing += 1
        return slot

    def seal(self, slot: int) -> None:
        self._step(slot, SlotEvent.SEAL)
        self._writing -= 1

    def discard(self, slot: int) -> None:
        self._step(slot, SlotEvent.DISCARD)
        self._writing -= 1
        self._freed(slot)

    def lease(self, slot: int) -> int:
        """One more lease; returns how many the slot has now."""
        record = self._step(slot, SlotEvent.LEASE)
        record.leases += 1
        self._leases += 1
        return record.leases

    def release(self, slot: int) -> int:
        """One lease less; returns how many are left."""
        record = self._slots[slot]
        if not record.leases:
            raise IllegalSlotEvent(f"slot {slot} has no lease to release")
        self._step(slot, SlotEvent.RELEASE)
        record.leases -= 1
        self._leases -= 1
        return record.leases

    def drop(self, slot: int) -> None:
        if self._slots[slot].leases:
            raise IllegalSlotEvent(f"slot {slot} is leased and can't be dropped")
        self._step(slot, SlotEvent.DROP)
        self._freed(slot)

    def check(self) -> None:
        """Count everything anew and compare; AssertionError names what does not add up."""
        states = [record.state for record in self._slots]
        assert states.count(SlotState.FREE) == self.free, "the free list and the states disagree"
        assert states.count(SlotState.WRITING) == self._writing, "writing slots are miscounted"
        assert self.free + self.writing + self.sealed == self.total, "slots were lost"
        assert all(earlier != later for earlier, later in pairwise(sorted(self._free))), "a slot is free twice"
        assert all(states[slot] is SlotState.FREE for slot in self._free), "the free list holds a slot in use"
        assert sum(record.leases for record in self._slots) == self._leases, "leases are miscounted"
        assert all(record.leases >= 0 for record in self._slots), "a slot was released too often"
        assert all(r.state is SlotState.SEALED for r in self._slots if r.leases), "a slot is leased but not sealed"

    def _step(self, slot: int, event: SlotEvent) -> _Slot:
        record = self._slots[slot]
        after = NEXT.get((record.state, event))
        if after is None:
            raise IllegalSlotEvent(f"slot {slot} is {record.state}: {event} is illegal")
        record.state = after
        return record

    def _freed(self, slot: int) -> None:
        self._slots[slot].generation += 1
        self._free.append(slot)
