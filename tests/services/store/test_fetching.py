"""A worker's lookup that finds part of its prefix at another store, over real gRPC and TCP."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import xxhash

from kvstore.frames import Done, End, Hello, Release, Slices, Want, Welcome
from kvstore.framing import HEADER_BYTES, decode_body, decode_header, encode
from kvstore.tcp_sides import join_address
from services.store.peers_loop import LEFT_ALONE_S
from services.wire.pb import common_pb2
from tests.services.serving import serving
from tests.services.store.cable import cable
from tests.services.store.pair import LAYOUT, REFUSED, WRITE, names, pair

SIZE = LAYOUT.block_bytes


def at(address: str, store: str = "there") -> common_pb2.StoreTarget:
    return common_pb2.StoreTarget(store=store, address=address)


async def test_what_is_missing_is_fetched_and_held_from_then_on(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        blocks = await it.there.put(names(6))
        await it.here.put(names(2, "other"))
        assert await it.here.acquire(names(6), source=it.there) == blocks
        assert await it.here.acquire(names(6), deadline_s=0) == blocks
        assert it.here.metric("blocks_total", way="fetched") == 6
        await it.rig.until("they are answered for", lambda: it.there.metric("blocks_total", way="served") == 6)
        assert it.here.metric("bytes_total", direction="received") == 6 * SIZE
        assert it.here.node.catalog.snapshot().hits.peer == 6
        assert it.there.node.catalog.snapshot().hits.asked == 0, "who asks for another's worker is counted there"


async def test_only_what_is_missing_is_fetched(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        blocks = await it.there.put(names(6))
        await it.here.acquire(names(2), source=it.there)
        assert await it.here.acquire(names(6), source=it.there) == blocks
        assert it.here.metric("blocks_total", way="fetched") == 6


async def test_what_the_peer_has_no_more_is_missing_and_what_it_has_is_served(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        blocks = await it.there.put(names(3))
        assert await it.here.acquire(names(6), source=it.there) == blocks
        await it.rig.until("it is counted", lambda: it.here.metric("blocks_not_there_total") == 3)
        assert it.here.failures() == 0


async def test_what_a_worker_of_the_peer_is_still_writing_is_missing_at_once_and_no_failure(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        allocated = await it.there.allocate(names(3))
        for ref in allocated.slots:
            it.there.write(ref)
        await it.there.seal(allocated.slots[:2])
        blocks = [it.there.block(ref.slot) for ref in allocated.slots[:2]]
        assert await it.here.acquire(names(3), source=it.there, deadline_s=60) == blocks
        await it.rig.until("it is counted", lambda: it.here.metric("blocks_not_there_total") == 1)
        assert it.here.failures() == 0


async def test_a_peer_is_asked_only_for_the_names_that_it_is_believed_to_hold(tmp_path: Path) -> None:
    """What lies behind them costs no slot here, and does not look as if it had been lost."""
    async with pair(tmp_path, slots=4) as it:
        blocks = await it.there.put(names(3))
        await it.here.put(names(1, "other"))
        assert await it.here.acquire(names(6), source=it.there, fetchable=3) == blocks
        assert it.here.metric("blocks_not_there_total") == it.here.failures() == 0
        assert set(it.here.node.catalog.held_names()) == {*names(3), *names(1, "other")}, "nothing was evicted for it"


async def test_a_long_prefix_is_fetched_in_windows_of_what_may_be_under_way(tmp_path: Path) -> None:
    async with pair(tmp_path, transfer_bytes_in_flight=3 * SIZE) as it:
        blocks = await it.there.put(names(8))
        assert await it.here.acquire(names(8), source=it.there) == blocks


async def test_two_fetches_that_share_what_may_be_under_way_both_get_all(tmp_path: Path) -> None:
    async with pair(tmp_path, transfer_bytes_in_flight_total=4 * SIZE) as it, it.another_worker() as other:
        mine, theirs = await it.there.put(names(4, "a")), await it.there.put(names(4, "b"))
        found = await asyncio.gather(
            it.here.acquire(names(4, "a"), source=it.there), other.acquire(names(4, "b"), source=it.there)
        )
        assert found[0] == mine[: len(found[0])]
        assert found[1] == theirs[: len(found[1])]
        assert len(found[0]) == 4 or len(found[1]) == 4


async def test_a_peer_reads_what_it_has_on_its_ssd(tmp_path: Path) -> None:
    async with pair(tmp_path, there_slots=4, ssd=1 << 20, data_dir=tmp_path / "data") as it:
        blocks = await it.there.put(names(3))
        assert it.there.node.ssd is not None
        assert await it.there.node.ssd.written_behind(10)
        await it.there.put(names(4, "b"))
        assert not set(names(3)) & set(it.there.node.catalog.held_names()), "they are on its SSD only"
        assert await it.here.acquire(names(3), source=it.there) == blocks
    for path in (tmp_path / "data").rglob("*.kv*"):
        path.unlink()


async def test_a_source_that_is_this_very_store_is_not_asked(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        assert await it.here.acquire(names(2), source=it.here) == []
        assert it.here.metric("connections") == 0


# What goes wrong


async def test_nobody_answers_so_it_is_missing_at_once(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        target = it.there.target
        await it.there.store.stop()
        assert await it.here.acquire(names(3), source=target, deadline_s=60) == []
        await it.rig.until("it is counted", lambda: it.here.metric("failures_total", reason="away") == 1)


async def test_a_block_that_was_corrupted_where_it_lay_is_not_served_nor_what_follows_it(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        allocated = await it.there.allocate(names(4))
        for ref in allocated.slots:
            it.there.write(ref)
        await it.there.seal(allocated.slots)
        it.there.layer(allocated.slots[2].slot, 1)[7] ^= 1
        intact = [it.there.block(ref.slot) for ref in allocated.slots[:2]]
        assert await it.here.acquire(names(4), source=it.there) == intact
        assert it.here.metric("blocks_refused_total") == 1
        assert it.here.metric("failures_total", reason="checksum") == 1


async def test_a_block_that_was_corrupted_on_the_way_is_not_served(tmp_path: Path) -> None:
    async with pair(tmp_path) as it, cable(it.there.node.transfer_address, back=True, flip_at=2 * SIZE) as noisy:
        blocks = await it.there.put(names(4))
        served = await it.here.acquire(names(4), source=at(noisy.address))
        assert served == blocks[: len(served)]
        assert len(served) < 4
        assert it.here.metric("blocks_refused_total") == 1


@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.95])
async def test_the_peer_dies_in_the_middle_so_half_is_served_and_half_is_missing(tmp_path: Path, part: float) -> None:
    async with (
        pair(tmp_path) as it,
        cable(it.there.node.transfer_address, back=True, cut_at=int(part * 10 * SIZE)) as broken,
    ):
        blocks = await it.there.put(names(10))
        served = await it.here.acquire(names(10), source=at(broken.address))
        assert served == blocks[: len(served)]
        assert len(served) < 10
        await it.rig.until("it is counted", lambda: it.here.metric("failures_total", reason="broken") == 1)


async def test_a_peer_that_sends_nothing_costs_no_more_than_the_deadline(tmp_path: Path) -> None:
    async with pair(tmp_path) as it, peer([]) as silent:
        assert await it.here.acquire(names(3), source=at(silent), deadline_s=0.05) == []
        await it.rig.until("it is counted", lambda: it.here.metric("failures_total", reason="deadline") == 1)


async def test_a_peer_that_hangs_is_left_alone_for_a_while_and_then_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each lookup would cost its whole deadline, for as long as somebody believes that it has the blocks."""
    monkeypatch.setattr("kvstore.tcp_sides.HELLO_S", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as hung:
        target = at(join_address(*hung.getsockname()))
        async with pair(tmp_path) as it:
            assert await it.here.acquire(names(3), source=target, deadline_s=60) == []
            await it.rig.until("it is counted", lambda: it.here.metric("failures_total", reason="stalled") == 1)
            assert await it.here.acquire(names(3), source=target, deadline_s=60) == []
            assert (await it.here.push(it.there, names(3), target=target))[1] == [REFUSED] * 3
            assert it.here.metric("failures_total", reason="stalled") == 3
            await it.rig.until("they are closed", lambda: it.here.metric("connections") == 0)
            it.here.node.clock = lambda: time.monotonic() + LEFT_ALONE_S
            assert await it.here.acquire(names(3), source=target, deadline_s=60) == []
            await it.rig.until("it was tried", lambda: it.here.metric("failures_total", reason="stalled") == 4)


async def test_a_peer_that_sends_half_is_used_for_that_half(tmp_path: Path) -> None:
    data = [bytes([number]) * SIZE for number in range(2)]
    said = [
        piece
        for number, block in enumerate(data)
        for piece in (
            encode(Slices(1, (number,), 0, LAYOUT.layers, SIZE)),
            block,
            encode(Done(1, (number,), (xxhash.xxh3_64_intdigest(block),))),
        )
    ]
    async with pair(tmp_path) as it, peer([*said, encode(End(1, "that is all"))]) as half:
        assert await it.here.acquire(names(4), source=at(half)) == data


async def test_a_peer_that_is_not_who_it_should_be_is_not_believed(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        await it.there.put(names(2))
        impostor = at(it.there.node.transfer_address, "elsewhere")
        assert await it.here.acquire(names(2), source=impostor) == []
        await it.rig.until("it is counted", lambda: it.here.metric("failures_total", reason="refused") == 1)


async def test_a_full_store_fetches_nothing(tmp_path: Path) -> None:
    async with pair(tmp_path, slots=4) as it:
        await it.there.put(names(2))
        assert list((await it.here.allocate(names(4, "b"))).grants) == [WRITE] * 4
        assert await it.here.acquire(names(2), source=it.there) == []


async def test_a_store_without_a_worker_lends_what_is_pushed_to_it(tmp_path: Path) -> None:
    """It adopts its first peer's deployment."""
    async with pair(tmp_path, there_worker=False) as it:
        blocks = await it.here.put(names(3), hold=True)
        assert it.there.node.catalog.identity is None
        call, grants = await it.here.push(it.there, names(3))
        assert grants == [WRITE] * 3
        await it.rig.until("they are there", lambda: len(it.there.node.catalog.held_names()) == 3)
        await it.here.push_end(call)
        assert await it.here.acquire(names(3)) == blocks
        assert it.there.node.catalog.identity == it.here.node.catalog.identity


@asynccontextmanager
async def peer(said: list[bytes]) -> AsyncIterator[str]:
    """A store by hand, which welcomes whoever comes, and answers whatever is wanted with this."""

    async def frame(reader: asyncio.StreamReader) -> object:
        header = decode_header(await reader.readexactly(HEADER_BYTES))
        return decode_body(header, await reader.readexactly(header.body_bytes))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(await frame(reader), Hello)
        writer.write(encode(Welcome("there", 1)))
        assert isinstance(await frame(reader), Want)
        writer.writelines(said)
        try:
            while not isinstance(await frame(reader), Release):
                pass
        except asyncio.IncompleteReadError:
            pass

    async with serving(serve) as address:
        yield address
