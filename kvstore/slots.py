"""The slots of a tier, an arena or an SSD file, as a table-driven state machine.

Knows which slots are free, being written or sealed, how often each is leased, and which
tenancy of a slot is the present one; not what is in them, nor who writes or reads it.
Always ``free + writing + sealed == total``; a leased slot is sealed.

    free --allocate--> writing --seal--> sealed --drop--> free
      |                  |             (lease, release: leased n times)
      |                  +---discard---> free
      +--find--> sealed
"""

from array import array
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
    FIND = "find"
    """A scan of the SSD file has found a block in it; there is none to find in a new arena."""
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
    (SlotState.FREE, SlotEvent.FIND): SlotState.SEALED,
    (SlotState.WRITING, SlotEvent.SEAL): SlotState.SEALED,
    (SlotState.WRITING, SlotEvent.DISCARD): SlotState.FREE,
    (SlotState.SEALED, SlotEvent.LEASE): SlotState.SEALED,
    (SlotState.SEALED, SlotEvent.RELEASE): SlotState.SEALED,
    (SlotState.SEALED, SlotEvent.DROP): SlotState.FREE,
}
"""What is not in here is illegal."""


class IllegalSlotEvent(AssertionError):
    """A bug of the caller; the slot is as it was."""


_STATES = tuple(SlotState)
_CODES = {state: code for code, state in enumerate(_STATES)}
_ILLEGAL = -1
_AFTER = {
    event: tuple(_CODES[NEXT[(state, event)]] if (state, event) in NEXT else _ILLEGAL for state in _STATES)
    for event in SlotEvent
}
"""``NEXT`` by the codes that slots are kept as."""
_FREE, _WRITING, _SEALED = (_CODES[state] for state in (SlotState.FREE, SlotState.WRITING, SlotState.SEALED))


class Slots:
    """``total`` slots, numbered from 0, all free at first.

    A slot's generation goes up when it becomes free, so whoever still knows it by its old
    generation is told apart from that moment on. Generations start at 1; 0 is nobody's.
    Nothing is made for each slot: a million of them are three arrays, 13 MB.
    """

    def __init__(self, total: int) -> None:
        self._states = bytearray(total)  # codes; 0 is free
        self._tenancies = array("Q", bytes(8 * total))  # how often each became free again
        self._leases_on = array("I", bytes(4 * total))
        # A stack: the slot freed last is written next, while its pages are still in the caches. Slots from
        # ``_fresh`` on were never allocated, and are not on it.
        self._freed: list[int] = []
        self._fresh = 0
        self._free = total
        self._writing = 0
        self._leases = 0

    @property
    def total(self) -> int:
        return len(self._states)

    @property
    def free(self) -> int:
        return self._free

    @property
    def writing(self) -> int:
        return self._writing

    @property
    def sealed(self) -> int:
        return len(self._states) - self._free - self._writing

    @property
    def leases(self) -> int:
        """Leases on all slots together."""
        return self._leases

    def state(self, slot: int) -> SlotState:
        return _STATES[self._states[slot]]

    def is_free(self, slot: int) -> bool:
        return not self._states[slot]

    def generation(self, slot: int) -> int:
        return self._tenancies[slot] + 1

    def leases_on(self, slot: int) -> int:
        return self._leases_on[slot]

    def is_current(self, slot: int, generation: int) -> bool:
        """Whether ``generation`` is the slot's present tenancy. False, too, for slots that don't exist."""
        if not 0 <= slot < len(self._states):
            return False
        return self._tenancies[slot] + 1 == generation and self._states[slot] != _FREE

    def allocate(self) -> int | None:
        """A slot to write, or None where no slot is free."""
        if not self._free:
            return None
        # What was found beyond _fresh is skipped; as many slots are free as this searches for.
        slot = self._freed[-1] if self._freed else self._states.find(_FREE, self._fresh)
        if self._states[slot] != _FREE:
            self._step(slot, SlotEvent.ALLOCATE)  # which is illegal
        self._states[slot] = _WRITING
        if self._freed:
            self._freed.pop()
        else:
            self._fresh = slot + 1
        self._free -= 1
        self._writing += 1
        return slot

    def find(self, slot: int) -> None:
        """It holds a block already. Only before any slot is allocated."""
        if self._fresh:
            raise IllegalSlotEvent(f"slot {slot}: what was there before is found before anything is written")
        self._step(slot, SlotEvent.FIND)
        self._free -= 1

    def seal(self, slot: int) -> None:
        if self._states[slot] != _WRITING:
            self._step(slot, SlotEvent.SEAL)  # which is illegal
        self._states[slot] = _SEALED
        self._writing -= 1

    def discard(self, slot: int) -> None:
        self._step(slot, SlotEvent.DISCARD)
        self._writing -= 1
        self._becomes_free(slot)

    def lease(self, slot: int) -> int:
        """One more lease; returns how many the slot has now."""
        if self._states[slot] != _SEALED:
            self._step(slot, SlotEvent.LEASE)  # which is illegal; a legal one changes nothing
        leases = self._leases_on[slot] + 1
        self._leases_on[slot] = leases
        self._leases += 1
        return leases

    def release(self, slot: int) -> int:
        """One lease less; returns how many are left."""
        leases = self._leases_on[slot]
        if not leases:
            raise IllegalSlotEvent(f"slot {slot} has no lease to release")
        self._leases_on[slot] = leases - 1
        self._leases -= 1
        return leases - 1

    def drop(self, slot: int) -> None:
        if self._leases_on[slot]:
            raise IllegalSlotEvent(f"slot {slot} is leased and can't be dropped")
        self._step(slot, SlotEvent.DROP)
        self._becomes_free(slot)

    def check(self) -> None:
        """Count everything anew and compare; AssertionError names what does not add up."""
        states = [_STATES[code] for code in self._states]
        assert states.count(SlotState.FREE) == self.free, "the count of free slots and the states disagree"
        assert states.count(SlotState.WRITING) == self._writing, "writing slots are miscounted"
        assert self.free + self.writing + self.sealed == self.total, "slots were lost"
        known = [*self._freed, *(slot for slot in range(self._fresh, self.total) if states[slot] is SlotState.FREE)]
        assert len(known) == self.free, "a free slot would never be allocated again"
        assert all(earlier != later for earlier, later in pairwise(sorted(known))), "a slot is free twice"
        assert all(states[slot] is SlotState.FREE for slot in known), "the free list holds a slot in use"
        assert sum(self._leases_on) == self._leases, "leases are miscounted"
        leased = (state for state, leases in zip(states, self._leases_on, strict=True) if leases)
        assert all(state is SlotState.SEALED for state in leased), "a slot is leased but not sealed"

    def _step(self, slot: int, event: SlotEvent) -> None:
        before = self._states[slot]
        after = _AFTER[event][before]
        if after == _ILLEGAL:
            raise IllegalSlotEvent(f"slot {slot} is {_STATES[before]}: {event} is illegal")
        self._states[slot] = after

    def _becomes_free(self, slot: int) -> None:
        self._tenancies[slot] += 1
        self._free += 1
        if slot < self._fresh:
            self._freed.append(slot)
