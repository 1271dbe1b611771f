"""What a worker and its store say of slots comes back equal, and columns that do not agree are told in a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.vocabulary import Held, Lease, Refused, SlotRef, Tier, Write, Writing
from services.wire import store_codec
from services.wire.errors import WireError
from services.wire.pb.store_pb2 import GRANT_WRITE, Acquired, Allocated, Grant, Release, SlotRefs

slots = st.integers(0, 2**32 - 1)
generations = checksums = st.integers(0, 2**64 - 1)
allocations = st.one_of(
    st.builds(Write, slots, generations), st.builds(Held, slots, generations), st.builds(Writing), st.builds(Refused)
)


@given(st.lists(st.builds(SlotRef, slots, generations), max_size=300))
def test_references_come_back_in_their_order(refs: list[SlotRef]) -> None:
    said = Release(slots=store_codec.refs_to_wire(refs)).SerializeToString()
    assert store_codec.refs_from_wire(Release.FromString(said).slots) == refs


@given(st.lists(allocations, max_size=300))
def test_grants_come_back_each_with_its_slot(grants: list[Write | Held | Writing | Refused]) -> None:
    said = store_codec.allocated_to_wire(grants).SerializeToString()
    assert store_codec.allocated_from_wire(Allocated.FromString(said)) == grants


@given(st.lists(st.builds(Lease, slots, generations, checksums), max_size=300), st.booleans())
def test_leases_come_back_each_with_its_checksum(leases: list[Lease], done: bool) -> None:
    said = Acquired.FromString(store_codec.acquired_to_wire(leases, done=done).SerializeToString())
    assert (store_codec.leases_from_wire(said), said.done) == (leases, done)


@given(st.lists(st.sampled_from(Tier), max_size=20))
def test_leases_come_back_each_with_where_it_was_found(tiers: list[Tier]) -> None:
    leases = [Lease(place, 1, place, tier) for place, tier in enumerate(tiers)]
    said = Acquired.FromString(store_codec.acquired_to_wire(leases, done=True).SerializeToString())
    assert [lease.found for lease in store_codec.leases_from_wire(said)] == tiers
    assert bool(said.found) == bool(set(tiers) - {Tier.DRAM}), "DRAM goes without saying"


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_columns_that_do_not_agree_are_nobodys_slots(a: int, b: int, c: int) -> None:
    refs = SlotRefs(slots=range(a), generations=range(b))
    if a != b:
        with pytest.raises(WireError, match=f"{a} slots came with {b} generations"):
            store_codec.refs_from_wire(refs)
    if not a == b == c:
        with pytest.raises(WireError, match="came with"):
            store_codec.leases_from_wire(Acquired(slots=refs, checksums=range(c)))
        with pytest.raises(WireError, match="came with"):
            store_codec.allocated_from_wire(Allocated(grants=[GRANT_WRITE] * c, slots=refs))


def test_a_grant_that_nobody_knows_is_no_grant() -> None:
    unknown = Allocated(grants=[Grant.Value("GRANT_UNSPECIFIED")], slots=SlotRefs(slots=[1], generations=[1]))
    with pytest.raises(WireError, match="no grant has the number 0"):
        store_codec.allocated_from_wire(unknown)
