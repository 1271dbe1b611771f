"""A worker's push, from its session to the other store's readers, over real gRPC and TCP."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from services.wire.pb import common_pb2, store_pb2
from services.wire.store_codec import refs_to_wire
from tests.services.rig import PATIENCE_S
from tests.services.store.cable import cable
from tests.services.store.pair import HELD, LAYOUT, REFUSED, WRITE, Host, Pair, attach, names, pair, serve
from tests.services.wire.certificates import Authority

SIZE = LAYOUT.block_bytes


async def waits(host: Host, wanted: int, story: str = "a") -> "asyncio.Task[list[bytes]]":
    """A reader that waits there for what is being pushed."""
    reading = asyncio.create_task(host.acquire(names(wanted, story), handoff=True))
    async with asyncio.timeout(PATIENCE_S):
        while not host.node.catalog.snapshot().waiting:  # noqa: ASYNC110 - what is watched has no event to wait for
            await asyncio.sleep(0.002)
    return reading


async def test_what_is_sealed_is_pushed_whole_and_read_there(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        blocks = await it.here.put(names(5), hold=True)
        call, grants = await it.here.push(it.there, names(5))
        assert grants == [WRITE] * 5
        assert await it.there.acquire(names(5), handoff=True) == blocks
        assert it.there.metric("blocks_total", way="taken") == 5
        await it.rig.until("it is answered for", lambda: it.here.metric("blocks_total", way="pushed") == 5)
        await it.here.push_end(call)
        assert it.here.metric("bytes_total", direction="sent") == 5 * SIZE
        assert it.there.metric("bytes_total", direction="received") == 5 * SIZE


async def test_layers_leave_while_others_are_still_being_written(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        allocated = await it.here.allocate(names(3), hold=True)
        call, grants = await it.here.push(it.there, names(3))
        assert grants == [WRITE] * 3
        for layer in range(LAYOUT.layers):
            for ref in allocated.slots:
                it.here.write(ref, range(layer, layer + 1))
            await it.here.wrote(allocated.slots, layer)
            await it.there.received(3 * sum(LAYOUT.layer_bytes[: layer + 1]))
        assert await it.there.acquire(names(3), deadline_s=0) == [], "nothing is served that is not sealed"
        assert await it.here.seal(allocated.slots) == [True] * 3
        blocks = await it.there.acquire(names(3), handoff=True)
        assert blocks == [it.here.block(ref.slot) for ref in allocated.slots]
        assert it.here.metric("bytes_total", direction="sent") == 3 * SIZE, "and nothing twice"
        await it.here.push_end(call)


async def test_what_is_held_there_is_not_sent(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        blocks = await it.here.put(names(4), hold=True)
        await it.there.acquire(names(2), source=it.here)
        call, grants = await it.here.push(it.there, names(4))
        assert grants == [HELD, HELD, WRITE, WRITE]
        assert await it.there.acquire(names(4), handoff=True) == blocks
        await it.rig.until("it is answered for", lambda: it.here.metric("blocks_total", way="pushed") == 2)
        await it.here.push_end(call)


async def test_what_another_session_is_writing_is_pushed_once_it_is_sealed(tmp_path: Path) -> None:
    async with pair(tmp_path) as it, it.another_worker() as other:
        theirs = await other.allocate(names(1))
        ours = await it.here.put(names(2)[1:], hold=True)
        call, grants = await it.here.push(it.there, names(2))
        assert grants == [WRITE] * 2
        reading = await waits(it.there, 2)
        other.write(theirs.slots[0])
        await other.seal(theirs.slots)
        assert await reading == [other.block(theirs.slots[0].slot), *ours]
        await it.here.push_end(call)


async def test_pushed_blocks_stay_leased_to_the_handover_until_it_is_over(tmp_path: Path) -> None:
    async with pair(tmp_path, there_slots=4) as it:
        await it.here.put(names(3), hold=True)
        call, _ = await it.here.push(it.there, names(3))
        await it.there.acquire(names(3), handoff=True)
        await it.there.put(names(1, "b"))
        crowded = await it.there.allocate(names(2, "c"))
        assert list(crowded.grants) == [WRITE, REFUSED], "one could be evicted; three are somebody's"
        owners = {each.owner: each.leases for each in it.there.node.catalog.snapshot().owners}
        assert owners["push from here"] == 3
        await it.here.push_end(call)
        await it.rig.until("they are nobody's", lambda: it.there.node.catalog.snapshot().leases == 0)


async def test_what_there_is_no_room_for_is_refused_and_the_rest_is_pushed(tmp_path: Path) -> None:
    async with pair(tmp_path, there_slots=3) as it:
        blocks = await it.here.put(names(5), hold=True)
        call, grants = await it.here.push(it.there, names(5))
        assert grants == [WRITE, WRITE, WRITE, REFUSED, REFUSED]
        assert await it.there.acquire(names(5), handoff=True) == blocks[:3]
        assert it.here.metric("failures_total", reason="no_room") == 1
        await it.here.push_end(call)


async def test_no_more_bytes_are_under_way_than_may_be(tmp_path: Path) -> None:
    async with pair(tmp_path, transfer_bytes_in_flight=2 * SIZE) as it:
        allocated = await it.here.allocate(names(5), hold=True)
        call, grants = await it.here.push(it.there, names(5))
        assert grants == [WRITE, WRITE, REFUSED, REFUSED, REFUSED]
        assert it.there.metric("bytes_in_flight", direction="received") == 2 * SIZE
        for ref in allocated.slots:
            it.here.write(ref)
        await it.here.seal(allocated.slots)
        assert len(await it.there.acquire(names(5), handoff=True)) == 2
        assert it.there.metric("bytes_in_flight", direction="received") == 0
        await it.here.push_end(call)


async def test_a_short_block_crosses_and_is_gone_with_the_handover(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        blocks = await it.here.put(names(2), hold=True, last_is_short=True)
        call, _ = await it.here.push(it.there, names(2), last_is_short=True)
        assert await it.there.acquire(names(2), handoff=True) == blocks
        await it.here.push_end(call)
        await it.rig.until("it is dropped", lambda: it.there.node.catalog.snapshot().sealed == 1)
        assert it.there.node.catalog.held_names() == names(1)


# What goes wrong at the sender


async def test_whoever_waits_is_told_when_a_push_ends_in_the_middle(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        allocated = await it.here.allocate(names(2), hold=True)
        call, _ = await it.here.push(it.there, names(2))
        await it.here.wrote(allocated.slots, 0)
        reading = await waits(it.there, 2)
        await it.here.push_end(call)
        assert await reading == []


async def test_whoever_waits_is_told_when_the_writer_discards(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        allocated = await it.here.allocate(names(3), hold=True)
        call, _ = await it.here.push(it.there, names(3))
        it.here.write(allocated.slots[0])
        await it.here.wrote(allocated.slots, 0)
        await it.here.seal(allocated.slots[:1])
        reading = await waits(it.there, 3)
        await it.here.speaker.say(discard=store_pb2.Discard(slots=refs_to_wire(allocated.slots[1:2])))
        assert await reading == [it.here.block(allocated.slots[0].slot)]
        await it.here.push_end(call)


async def test_whoever_waits_is_told_when_the_worker_dies(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        allocated = await it.here.allocate(names(2), hold=True)
        await it.here.push(it.there, names(2))
        await it.here.wrote(allocated.slots, 0)
        reading = await waits(it.there, 2)
        it.here.leave()
        assert await reading == []
        await it.at_rest()


async def test_a_block_that_another_wrote_in_the_end_is_sent_whole_from_where_it_is(tmp_path: Path) -> None:
    """Two writers' bytes may differ in the last bit; half of one and half of the other is nobody's block."""
    async with pair(tmp_path) as it, it.another_worker() as other:
        first = await other.allocate(names(1))
        ours = await it.here.allocate(names(2), hold=True)
        call, grants = await it.here.push(it.there, names(2))
        assert grants == [WRITE] * 2
        it.here.write(ours.slots[1], range(1))
        await it.here.wrote(ours.slots[1:], 0)
        await it.there.received(LAYOUT.layer_bytes[0])
        await it.here.speaker.say(discard=store_pb2.Discard(slots=refs_to_wire(ours.slots[1:])))
        await it.here.acquire(names(1), deadline_s=0)  # whose answer shows that it was discarded
        second = await other.allocate(names(2))
        refs = [first.slots[0], second.slots[1]]
        for ref in refs:
            other.write(ref)
        assert all(await other.seal(refs))
        assert await it.there.acquire(names(2), handoff=True) == [other.block(ref.slot) for ref in refs]
        assert it.there.metric("blocks_refused_total") == 0
        await it.here.push_end(call)


async def test_a_store_is_not_pushed_to_itself(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        await it.here.put(names(2), hold=True)
        assert (await it.here.push(it.here, names(2)))[1] == [REFUSED] * 2


# What goes wrong on the way, and at the receiver


async def pushed_through(it: Pair, address: str, count: int = 6) -> list[bytes]:
    """Push over this address; what was pushed."""
    blocks = await it.here.put(names(count), hold=True)
    target = common_pb2.StoreTarget(store="there", address=address)
    _, grants = await it.here.push(it.there, names(count), target=target)
    assert grants == [WRITE] * count
    return blocks


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
async def test_a_connection_that_breaks_is_opened_again_and_what_arrived_is_not_sent_twice(
    tmp_path: Path, part: float
) -> None:
    async with pair(tmp_path) as it, cable(it.there.node.transfer_address, cut_at=int(part * 6 * SIZE)) as broken:
        allocated = await it.here.allocate(names(6), hold=True)
        target = common_pb2.StoreTarget(store="there", address=broken.address)
        call, _ = await it.here.push(it.there, names(6), target=target)
        for ref in allocated.slots:
            it.here.write(ref)
            await it.here.seal([ref])
        await it.rig.until("all is there", lambda: len(it.there.node.catalog.held_names()) == 6)
        assert broken.connections == 2
        assert await it.there.acquire(names(6)) == [it.here.block(ref.slot) for ref in allocated.slots]
        assert it.there.metric("blocks_total", way="taken") == 6
        await it.here.push_end(call)


async def test_a_second_break_is_the_end_of_it_and_is_counted(tmp_path: Path) -> None:
    async with pair(tmp_path) as it, cable(it.there.node.transfer_address) as broken:
        await it.here.allocate(names(6), hold=True)
        target = common_pb2.StoreTarget(store="there", address=broken.address)
        call, _ = await it.here.push(it.there, names(6), target=target)
        broken.cut()
        # From then on, what is reserved there is the second offer's.
        await it.rig.until("the first is over", lambda: it.there.metric("failures_total", reason="broken") == 1)
        await it.rig.until("it is connected to again", lambda: broken.connections == 2)
        await it.rig.until("it is offered", lambda: it.there.node.catalog.snapshot().writing == 6)
        broken.cut()
        await it.rig.until("it is counted", lambda: it.here.metric("failures_total", reason="broken") == 1)
        await it.rig.until("what was reserved is free", lambda: it.there.node.catalog.snapshot().writing == 0)
        await it.here.push_end(call)


async def test_a_second_break_is_counted_too_where_the_offer_was_not_answered_again(tmp_path: Path) -> None:
    async with pair(tmp_path) as it, cable(it.there.node.transfer_address) as broken:
        await it.here.allocate(names(6), hold=True)
        target = common_pb2.StoreTarget(store="there", address=broken.address)
        call, grants = await it.here.push(it.there, names(6), target=target)
        assert grants == [WRITE] * 6
        broken.dead = True
        broken.cut()
        await it.rig.until("it is counted", lambda: it.here.metric("failures_total", reason="broken") == 1)
        assert broken.connections == 2
        await it.here.push_end(call)


async def test_a_block_corrupted_on_the_way_is_refused_counted_and_never_served(tmp_path: Path) -> None:
    # The blocks are the last of what is sent on this connection, so a byte in the middle is one of theirs.
    async with pair(tmp_path) as it, cable(it.there.node.transfer_address, flip_at=3 * SIZE) as noisy:
        blocks = await pushed_through(it, noisy.address)
        await it.rig.until("one is refused", lambda: it.there.metric("blocks_refused_total") == 1)
        await it.rig.until("others are there", lambda: len(it.there.node.catalog.held_names()) == 5)
        served = await it.there.acquire(names(6), handoff=True)
        assert 0 < len(served) < 6
        assert served == blocks[: len(served)]
        assert it.there.metric("failures_total", reason="checksum") == 1
        await it.rig.until("here, too", lambda: it.here.metric("failures_total", reason="checksum") == 1)


async def test_a_corrupted_frame_header_breaks_the_connection_and_all_arrives_over_the_next(tmp_path: Path) -> None:
    async with pair(tmp_path) as it, cable(it.there.node.transfer_address) as noisy:
        await pushed_through(it, noisy.address, 1)
        await it.rig.until("it is there", lambda: len(it.there.node.catalog.held_names()) == 1)
        noisy.flip_next = True
        blocks = await it.here.put(names(3, "b"), hold=True)
        target = common_pb2.StoreTarget(store="there", address=noisy.address)
        _, grants = await it.here.push(it.there, names(3, "b"), target=target)
        assert grants == [WRITE] * 3
        assert await it.there.acquire(names(3, "b"), handoff=True) == blocks
        assert noisy.connections == 2


async def test_nobody_answers_so_all_is_refused(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        await it.here.put(names(2), hold=True)
        target = it.there.target
        await it.there.store.stop()
        _, grants = await it.here.push(it.there, names(2), target=target)
        assert grants == [REFUSED] * 2
        assert it.here.metric("failures_total", reason="away") == 1


async def test_a_store_that_was_restarted_is_pushed_to_again(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        blocks = await it.here.put(names(3), hold=True)
        call, _ = await it.here.push(it.there, names(3))
        await it.there.acquire(names(3), handoff=True)
        address = it.there.node.transfer_address
        await it.there.store.stop()
        it.there.leave()
        store = await serve(it.rig, "there", dram=64 * LAYOUT.slot_bytes, transfer_listen=address)
        it.there = await attach(it.rig.stack, it.rig, store, "worker-there")
        await it.here.push_end(call)
        again, grants = await it.here.push(it.there, names(3))
        assert grants == [WRITE] * 3
        assert await it.there.acquire(names(3), handoff=True) == blocks
        await it.here.push_end(again)


async def test_with_certificates_all_of_it_is_encrypted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.files("store", "127.0.0.1")
    tls: dict[str, Any] = {"tls_cert": cert, "tls_key": key, "tls_ca": authority.ca}
    async with pair(tmp_path, **tls) as it:
        blocks = await it.here.put(names(3), hold=True)
        call, grants = await it.here.push(it.there, names(3))
        assert grants == [WRITE] * 3
        assert await it.there.acquire(names(3), handoff=True) == blocks
        assert await it.here.acquire(names(2, "b"), source=it.there) == []
        await it.here.push_end(call)
        for path in (cert, key, authority.ca):
            path.unlink()
