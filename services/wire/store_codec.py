"""Translate what a worker and its store say to each other in a session; the same rules as codec.

Slots travel as two columns, slots and generations; an absent slot, of a name that was not granted, is
generation 0. Columns of one message that are not equally long are a WireError.
"""

from collections.abc import Iterable, Sequence
from typing import assert_never

from kvstore import frames
from kvstore.vocabulary import Allocation, Held, Lease, Refused, SlotRef, Tier, Write, Writing
from services.wire.errors import WireError
from services.wire.pb import store_pb2

_PUSHED = {
    frames.Grant.HELD: store_pb2.GRANT_HELD,
    frames.Grant.RESERVED: store_pb2.GRANT_WRITE,
    frames.Grant.ON_ITS_WAY: store_pb2.GRANT_WRITE,
    frames.Grant.REFUSED: store_pb2.GRANT_REFUSED,
}

_TIERS = {Tier.DRAM: store_pb2.TIER_DRAM, Tier.SSD: store_pb2.TIER_SSD, Tier.PEER: store_pb2.TIER_PEER}
_FOUND = {number: tier for tier, number in _TIERS.items()}


def refs_to_wire(refs: Sequence[SlotRef]) -> store_pb2.SlotRefs:
    return store_pb2.SlotRefs(slots=[ref.slot for ref in refs], generations=[ref.generation for ref in refs])


def refs_from_wire(wire: store_pb2.SlotRefs) -> list[SlotRef]:
    return list(map(SlotRef, *_columns(wire)))


def allocated_to_wire(allocations: Iterable[Allocation]) -> store_pb2.Allocated:
    grants, slots, generations = [], [], []
    for allocation in allocations:
        match allocation:
            case Write() | Held():
                grants.append(store_pb2.GRANT_WRITE if isinstance(allocation, Write) else store_pb2.GRANT_HELD)
                slots.append(allocation.slot)
                generations.append(allocation.generation)
            case Writing() | Refused():
                grants.append(store_pb2.GRANT_WRITING if isinstance(allocation, Writing) else store_pb2.GRANT_REFUSED)
                slots.append(0)
                generations.append(0)
            case _:
                assert_never(allocation)
    return store_pb2.Allocated(grants=grants, slots=store_pb2.SlotRefs(slots=slots, generations=generations))


def pushed_to_wire(grants: Iterable[frames.Grant]) -> store_pb2.Pushed:
    """Whoever writes a block there, it is on its way."""
    return store_pb2.Pushed(grants=[_PUSHED[grant] for grant in grants])


def allocated_from_wire(wire: store_pb2.Allocated) -> list[Allocation]:
    slots, generations = _columns(wire.slots)
    if len(wire.grants) != len(slots):
        raise WireError(f"{len(wire.grants)} grants came with {len(slots)} slots")
    return list(map(_allocation, wire.grants, slots, generations))


def acquired_to_wire(leases: Sequence[Lease], *, done: bool) -> store_pb2.Acquired:
    found = [_TIERS[lease.found] for lease in leases]
    return store_pb2.Acquired(
        slots=refs_to_wire(leases),
        checksums=[lease.checksum for lease in leases],
        done=done,
        found=found if any(found) else (),
    )


def leases_from_wire(wire: store_pb2.Acquired) -> list[Lease]:
    slots, generations = _columns(wire.slots)
    if len(wire.checksums) != len(slots):
        raise WireError(f"{len(slots)} leased slots came with {len(wire.checksums)} checksums")
    if not wire.found:
        return list(map(Lease, slots, generations, wire.checksums))
    if len(wire.found) != len(slots):
        raise WireError(f"{len(slots)} leased slots came with {len(wire.found)} tiers")
    return list(map(Lease, slots, generations, wire.checksums, map(_tier, wire.found)))


def _allocation(grant: int, slot: int, generation: int) -> Allocation:
    if grant == store_pb2.GRANT_WRITE:
        return Write(slot, generation)
    if grant == store_pb2.GRANT_HELD:
        return Held(slot, generation)
    if grant == store_pb2.GRANT_WRITING:
        return Writing()
    if grant == store_pb2.GRANT_REFUSED:
        return Refused()
    raise WireError(f"no grant has the number {grant}")


def _columns(wire: store_pb2.SlotRefs) -> tuple[Sequence[int], Sequence[int]]:
    slots, generations = wire.slots, wire.generations
    if len(slots) != len(generations):
        raise WireError(f"{len(slots)} slots came with {len(generations)} generations")
    return slots, generations


def _tier(number: store_pb2.Tier.ValueType) -> Tier:
    if number not in _FOUND:
        raise WireError(f"no tier has the number {number}")
    return _FOUND[number]
