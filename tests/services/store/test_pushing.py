"""A worker's push, from its session to the other store's readers, over real gRPC and TCP."""

from pathlib import Path

from tests.services.store.pair import LAYOUT, WRITE, names, pair


async def test_what_is_sealed_is_pushed_whole_and_read_there(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        blocks = await it.here.put(names(5), hold=True)
        call, grants = await it.here.push(it.there, names(5))
        assert grants == [WRITE] * 5
        assert await it.there.acquire(names(5), handoff=True) == blocks
        await it.here.push_end(call)
        assert it.here.metric("blocks_total", way="pushed") == it.there.metric("blocks_total", way="taken") == 5
        assert it.here.metric("bytes_total", direction="sent") == 5 * LAYOUT.block_bytes
        assert it.there.metric("bytes_total", direction="received") == 5 * LAYOUT.block_bytes


async def test_layers_leave_while_others_are_still_being_written(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        allocated = await it.here.allocate(names(3), hold=True)
        call, grants = await it.here.push(it.there, names(3))
        assert grants == [WRITE] * 3
        for layer in range(LAYOUT.layers):
            for ref in allocated.slots:
                it.here.write(ref, range(layer, layer + 1))
            await it.here.wrote(allocated.slots, layer)
            so_far = 3 * sum(LAYOUT.layer_bytes[: layer + 1])
            await it.there.received(so_far)
        assert await it.there.acquire(names(3), deadline_s=0) == [], "nothing is served that is not sealed"
        assert await it.here.seal(allocated.slots) == [True] * 3
        blocks = await it.there.acquire(names(3), handoff=True)
        assert blocks == [it.here.block(ref.slot) for ref in allocated.slots]
        assert it.here.metric("bytes_total", direction="sent") == 3 * LAYOUT.block_bytes, "and nothing twice"
        await it.here.push_end(call)
