"""The life of a slot, event by event."""

from contextlib import suppress
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.slots import NEXT, IllegalSlotEvent, SlotEvent, Slots, SlotState

EVENTS = st.lists(st.tuples(st.sampled_from(SlotEvent), st.integers(0, 2)), max_size=60)


def slot_in(state: SlotState) -> Slots:
    """One slot, in this state, without leases."""
    slots = Slots(1)
    if state is not SlotState.FREE:
        slots.allocate()
    if state is SlotState.SEALED:
        slots.seal(0)
    return slots


def tell(slots: Slots, event: SlotEvent, slot: int) -> None:
    match event:
        case SlotEvent.ALLOCATE:
            if slots.allocate() is None:
                raise IllegalSlotEvent("none is free")
        case SlotEvent.FIND:
            slots.find(slot)
        case SlotEvent.SEAL:
            slots.seal(slot)
        case SlotEvent.DISCARD:
            slots.discard(slot)
        case SlotEvent.LEASE:
            slots.lease(slot)
        case SlotEvent.RELEASE:
            slots.release(slot)
        case SlotEvent.DROP:
            slots.drop(slot)


@pytest.mark.parametrize(("state", "event"), [pair for pair in product(SlotState, SlotEvent) if pair not in NEXT])
def test_an_event_that_is_not_in_the_table_raises_and_changes_nothing(state: SlotState, event: SlotEvent) -> None:
    slots = slot_in(state)
    generation = slots.generation(0)
    with pytest.raises(IllegalSlotEvent):
        tell(slots, event, 0)
    assert (slots.state(0), slots.generation(0), slots.leases) == (state, generation, 0)
    slots.check()


@pytest.mark.parametrize(("before", "event"), [pair for pair in NEXT if pair[1] is not SlotEvent.RELEASE])
def test_an_event_in_the_table_leads_where_it_says(before: SlotState, event: SlotEvent) -> None:
    slots = slot_in(before)
    tell(slots, event, 0)
    assert slots.state(0) is NEXT[(before, event)]
    slots.check()


def test_a_leased_slot_is_never_dropped() -> None:
    slots = slot_in(SlotState.SEALED)
    slots.lease(0)
    with pytest.raises(IllegalSlotEvent, match="slot 0 is leased"):
        slots.drop(0)
    assert slots.release(0) == 0
    slots.drop(0)
    assert slots.free == 1


def test_leases_are_counted_and_no_more_are_released_than_were_taken() -> None:
    slots = slot_in(SlotState.SEALED)
    assert [slots.lease(0), slots.lease(0), slots.release(0), slots.release(0)] == [1, 2, 1, 0]
    with pytest.raises(IllegalSlotEvent, match="no lease to release"):
        slots.release(0)


def test_a_reference_is_stale_from_the_moment_its_slot_is_free() -> None:
    slots = slot_in(SlotState.SEALED)
    generation = slots.generation(0)
    assert slots.is_current(0, generation)
    slots.drop(0)
    assert not slots.is_current(0, generation)
    assert not slots.is_current(0, generation + 1), "a free slot is nobody's"
    slots.allocate()
    assert not slots.is_current(0, generation)
    assert slots.is_current(0, generation + 1)


def test_slots_that_do_not_exist_are_current_for_nobody() -> None:
    assert not Slots(2).is_current(2, 1)
    assert not Slots(2).is_current(-1, 1)
    assert not slot_in(SlotState.WRITING).is_current(0, 0), "generation 0 is what a message says that has none"


@given(EVENTS)
def test_nothing_is_lost_whatever_happens(events: list[tuple[SlotEvent, int]]) -> None:
    slots = Slots(3)
    for event, slot in events:
        with suppress(IllegalSlotEvent):
            tell(slots, event, slot)
        slots.check()
        assert slots.free + slots.writing + slots.sealed == slots.total == 3
