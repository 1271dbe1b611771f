"""Translate what a worker and its store say to each other in a session; the same rules as codec.

Slots travel as (slot, generation); an absent slot, of a name that was not granted, is generation 0.
"""

from collections.abc import Iterable, Sequence
from typing import assert_never

from kvstore import frames
from kvstore.vocabulary import Allocation, Held, Lease, Refused, SlotRef, Write, Writing
from services.wire.errors import WireError
from services.wire.pb import store_pb2

NO_SLOT = store_pb2.SlotRef()

_PUSHED = {
    frames.Grant.HELD: store_pb2.GRANT_HELD,
    frames.Grant.RESERVED: store_pb2.GRANT_WRITE,
    frames.Grant.ON_ITS_WAY: store_pb2.GRANT_WRITE,
    frames.Grant.REFUSED: store_pb2.GRANT_REFUSED,
}


def refs_to_wire(refs: Iterable[SlotRef]) -> list[store_pb2.SlotRef]:
    return [store_pb2.SlotRef(slot=ref.slot, generation=ref.generation) for ref in refs]


def refs_from_wire(wire: Iterable[store_pb2.SlotRef]) -> list[SlotRef]:
    return [SlotRef(ref.slot, ref.generation) for ref in wire]


def allocated_to_wire(allocations: Iterable[Allocation]) -> store_pb2.Allocated:
    grants, slots = [], []
    for allocation in allocations:
        match allocation:
            case Write():
                grants.append(store_pb2.GRANT_WRITE)
                slots.append(store_pb2.SlotRef(slot=allocation.slot, generation=allocation.generation))
            case Held():
                grants.append(store_pb2.GRANT_HELD)
                slots.append(store_pb2.SlotRef(slot=allocation.slot, generation=allocation.generation))
            case Writing():
                grants.append(store_pb2.GRANT_WRITING)
                slots.append(NO_SLOT)
            case Refused():
                grants.append(store_pb2.GRANT_REFUSED)
                slots.append(NO_SLOT)
            case _:
                assert_never(allocation)
    return store_pb2.Allocated(grants=grants, slots=slots)


def pushed_to_wire(grants: Iterable[frames.Grant]) -> store_pb2.Pushed:
    """Whoever writes a block there, it is on its way."""
    return store_pb2.Pushed(grants=[_PUSHED[grant] for grant in grants])


def allocated_from_wire(wire: store_pb2.Allocated) -> list[Allocation]:
    if len(wire.grants) != len(wire.slots):
        raise WireError(f"{len(wire.grants)} grants came with {len(wire.slots)} slots")
    return [_allocation(grant, slot) for grant, slot in zip(wire.grants, wire.slots, strict=True)]


def _allocation(grant: int, slot: store_pb2.SlotRef) -> Allocation:
    if grant == store_pb2.GRANT_WRITE:
        return Write(slot.slot, slot.generation)
    if grant == store_pb2.GRANT_HELD:
        return Held(slot.slot, slot.generation)
    if grant == store_pb2.GRANT_WRITING:
        return Writing()
    if grant == store_pb2.GRANT_REFUSED:
        return Refused()
    raise WireError(f"no grant has the number {grant}")


def acquired_to_wire(leases: Sequence[Lease], *, done: bool) -> store_pb2.Acquired:
    return store_pb2.Acquired(
        slots=[lease.slot for lease in leases],
        generations=[lease.generation for lease in leases],
        checksums=[lease.checksum for lease in leases],
        done=done,
    )


def leases_from_wire(wire: store_pb2.Acquired) -> list[Lease]:
    columns = (wire.slots, wire.generations, wire.checksums)
    if len({len(column) for column in columns}) != 1:
        raise WireError(f"leases came with {', '.join(str(len(column)) for column in columns)} of their fields")
    return list(map(Lease, *columns))
