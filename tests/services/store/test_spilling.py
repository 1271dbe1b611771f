"""A store that lends its room: copies go there, and what was evicted here comes back."""

import asyncio
from pathlib import Path

import pytest

from tests.services.rig import PATIENCE_S
from tests.services.store.cable import cable
from tests.services.store.pair import LAYOUT, Host, Pair, names, pair, serve


async def copied(it: Pair, lender: Host, stories: dict[str, int]) -> None:
    """Until the lender has all of these prefixes."""

    def there() -> bool:
        held = set(lender.node.catalog.held_names())
        return all(held.issuperset(names(count, story)) for story, count in stories.items())

    await it.rig.until("the lender has what it was sent", there, PATIENCE_S)


async def test_what_was_evicted_here_is_fetched_back_from_the_store_that_lends(tmp_path: Path) -> None:
    async with pair(tmp_path, there_worker=False) as it:
        spill_to = f"there@{it.there.node.transfer_address}"
        small = await serve(it.rig, "small", dram=6 * LAYOUT.slot_bytes, spill_to=spill_to)
        async with it.attached(small, "worker-small") as host:
            first = await host.put(names(4, "a"))
            await copied(it, it.there, {"a": 4})
            second = await host.put(names(4, "b"))
            await copied(it, it.there, {"a": 4, "b": 4})
            assert not set(names(4, "a")) <= set(host.node.catalog.held_names()), "there is room for one of them"
            assert await host.acquire(names(4, "a"), source=it.there) == first
            assert await host.acquire(names(4, "b"), source=it.there) == second


async def test_copies_on_their_way_leave_room_for_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.store.spill.PAUSE_S", 0.02)
    async with (
        pair(tmp_path, there_worker=False) as it,
        cable(it.there.node.transfer_address, stuck_at=LAYOUT.block_bytes) as link,
    ):
        small = await serve(it.rig, "small", dram=6 * LAYOUT.slot_bytes, spill_to=f"there@{link.address}")
        async with it.attached(small, "worker-small") as host:
            await host.put(names(4, "a"))
            await asyncio.wait_for(link.stuck.wait(), PATIENCE_S)
            assert small.node.catalog.snapshot().leases == 1, "no more is on its way than what an eighth may be"
            await host.put(names(4, "b"))
            link.stuck_at = -1
            link.cut()
            await copied(it, it.there, {"b": 4})


async def test_a_prefix_that_grows_is_copied_once(tmp_path: Path) -> None:
    async with pair(tmp_path, there_worker=False) as it:
        lending = await serve(
            it.rig, "growing", dram=16 * LAYOUT.slot_bytes, spill_to=f"there@{it.there.node.transfer_address}"
        )
        async with it.attached(lending, "worker-growing") as host:
            await host.put(names(3))
            await copied(it, it.there, {"a": 3})
            await host.put(names(5)[3:])
            await copied(it, it.there, {"a": 5})
            await it.rig.until("nothing is under way", lambda: not host.node.catalog.snapshot().leases, PATIENCE_S)
            assert host.metric("bytes_total", direction="sent") == 5 * LAYOUT.block_bytes


async def test_a_lender_that_is_away_costs_nothing_but_its_copies(tmp_path: Path) -> None:
    async with pair(tmp_path) as it:
        lonely = await serve(it.rig, "lonely", dram=4 * LAYOUT.slot_bytes, spill_to="nobody@127.0.0.1:1")
        async with it.attached(lonely, "worker-lonely") as host:
            await host.put(names(4, "a"))
            blocks = await host.put(names(4, "b"))
            await it.rig.until("it was tried", lambda: host.metric("failures_total", reason="away") > 0, PATIENCE_S)
            assert await host.acquire(names(4, "b")) == blocks


async def test_a_lender_that_comes_back_gets_what_it_missed_and_is_still_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.store.spill.PAUSE_S", 0.02)
    async with pair(tmp_path, there_worker=False) as it, cable(it.there.node.transfer_address) as link:
        link.dead = True
        store = await serve(it.rig, "store", dram=8 * LAYOUT.slot_bytes, spill_to=f"there@{link.address}")
        async with it.attached(store, "worker") as host:
            await host.put(names(3, "a"))
            await host.put(names(4, "b"))
            await it.rig.until("it was tried", lambda: link.connections > 0, PATIENCE_S)
            await host.put(names(3, "c"))  # for which the tail of the first goes
            await it.rig.until("it was tried", lambda: link.connections > 2, PATIENCE_S)
            held = store.node.catalog.held_names()
            kept = [name for name in names(3, "a") if name in held]
            assert 0 < len(kept) < 3
            link.dead = False
            await copied(it, it.there, {"a": len(kept), "b": 4, "c": 3})


async def test_a_copy_that_broke_off_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.store.spill.PAUSE_S", 0.02)
    async with (
        pair(tmp_path, there_worker=False) as it,
        cable(it.there.node.transfer_address, stuck_at=LAYOUT.block_bytes) as link,
    ):
        store = await serve(it.rig, "store", dram=64 * LAYOUT.slot_bytes, spill_to=f"there@{link.address}")
        async with it.attached(store, "worker") as host:
            await host.put(names(2))
            await asyncio.wait_for(link.stuck.wait(), PATIENCE_S)
            link.dead = True  # so the second connection of that push breaks, too
            link.cut()
            await it.rig.until("it was tried again", lambda: link.connections > 1, PATIENCE_S)
            link.stuck_at, link.dead = -1, False
            await copied(it, it.there, {"a": 2})


async def test_a_lender_that_lost_everything_is_offered_it_again_once_that_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.store.spill.PAUSE_S", 0.02)
    async with pair(tmp_path, there_worker=False) as it, cable(it.there.node.transfer_address) as link:
        store = await serve(it.rig, "store", dram=64 * LAYOUT.slot_bytes, spill_to=f"there@{link.address}")
        async with it.attached(store, "worker") as host:
            for story in "abc":
                await host.put(names(4, story))
            await copied(it, it.there, dict.fromkeys("abc", 4))
            link.dead = True
            link.cut()
            await it.rig.until("nothing is leased there", it.there.store.at_rest, PATIENCE_S)
            await it.there.node.reset()
            await host.put(names(1, "d"))
            await it.rig.until("it was tried", lambda: link.connections > 1, PATIENCE_S)
            link.dead = False
            await copied(it, it.there, {**dict.fromkeys("abc", 4), "d": 1})
