"""The SSD tier in a store: written behind, read back, found again, and given up when the disk fails."""

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from kvstore import plan as plan_module
from kvstore.disk import DiskBlocks
from kvstore.layout import KvLayout
from kvstore.names import BlockName
from kvstore.ssd import SsdFile
from kvstore.ssd_format import FIRST_SLOT
from kvstore.vocabulary import DiskEntry
from scheduler.vocabulary import SsdReport, StoreId
from services.store import node as node_module
from services.store import ssd_moves as ssd_moves_module
from services.store.metrics import StoreMetrics
from services.store.reports import StoreReports
from services.store.ssd_tier import SsdState
from tests.services.rig import PATIENCE_S, Rig, rig
from tests.services.store.shop import LAYOUT, STRIDE, Shop, name, names, open_plainly, shop

FEW = range(1, 5)


async def test_what_is_sealed_is_written_behind(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        it.put(FEW)
        assert it.ssd.pending == 4
        await it.written_behind()
        assert (it.disk.held, it.disk.pending, it.ssd.written.blocks) == (4, 0, 4)


async def test_what_memory_has_no_room_for_is_read_back_from_the_disk(tmp_path: Path) -> None:
    async with shop(tmp_path, slots=8) as it:
        for start in range(0, 40, 4):
            it.put(range(start, start + 4))
            await it.written_behind()
        assert it.counts.evicted >= 30
        for start in range(0, 40, 4):
            assert await it.served(range(start, start + 4)) == list(range(start, start + 4))
        assert it.ssd.read.blocks >= 30
        assert it.counts.hits.ssd == it.ssd.read.blocks
        assert it.counts.hits.asked == 40


async def test_reads_are_told_to_conductors_with_the_seconds_in_which_the_disk_was_reading(tmp_path: Path) -> None:
    async with shop(tmp_path, slots=8) as it:
        for start in range(0, 40, 4):
            it.put(range(start, start + 4))
            await it.written_behind()
        reports = StoreReports(it.node.catalog, store=StoreId("shop"), incarnation=1, address="unix:s", ssd=it.ssd)
        ledger = reports.ledger()
        assert reports.compose(ledger, 1, False).carried == (), "writes are no reads"
        await it.served(range(4))
        (carried,) = reports.compose(ledger, 2, False).carried
        assert (carried.source, carried.size_bytes) == (None, it.ssd.read.blocks * LAYOUT.block_bytes)
        assert 0.0 < carried.seconds <= it.ssd.read.seconds + 0.01
        assert reports.compose(ledger, 3, False).carried == ()


async def test_a_clean_restart_finds_every_block_by_its_index(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        it.put(FEW)
    async with shop(tmp_path) as it:
        assert it.ssd.scan is not None
        assert it.ssd.scan.from_snapshot
        assert await it.served([*FEW, 9]) == list(FEW)


async def test_a_restart_without_a_clean_shutdown_finds_every_block_that_was_written(tmp_path: Path) -> None:
    async with shop(tmp_path, cleanly=False) as it:
        it.put(FEW)
        await it.written_behind()
    async with shop(tmp_path) as it:
        assert it.ssd.scan is not None
        assert not it.ssd.scan.from_snapshot
        assert await it.served(FEW) == list(FEW)


async def test_a_store_that_is_told_to_stop_first_writes_what_is_not_there_yet(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        it.put(FEW)
        assert it.ssd.pending
    async with shop(tmp_path) as it:
        assert await it.served(FEW) == list(FEW)


async def test_a_block_that_is_not_intact_on_the_disk_is_missing_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with shop(tmp_path) as it:
        it.put(FEW)
    with (tmp_path / "ssd" / "shop.kv").open("r+b") as raw:
        raw.seek(FIRST_SLOT + 2 * STRIDE + 4096 + 10)
        raw.write(b"torn")
    async with shop(tmp_path) as it:
        assert await it.served(FEW) == [1, 2]
        assert (it.disk.dropped_torn, it.disk.held) == (1, 3)
        assert it.ssd.state is SsdState.ON
        it.put([3])
        await it.written_behind()
        assert await it.served(FEW) == list(FEW), "computed and written anew"
    assert [record.message for record in caplog.records].count("a block is not intact") == 1


async def test_a_reset_empties_both_tiers_for_good(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        it.put(FEW)
        await it.written_behind()
        await it.node.reset()
        assert (it.counts.sealed, it.disk.held) == (0, 0)
        assert await it.served(FEW) == []
        it.put([7])
    async with shop(tmp_path) as it:
        assert it.node.catalog.disk_names() == [name(7)]


async def test_a_reset_while_blocks_are_being_written_leaves_none_of_them(tmp_path: Path) -> None:
    async with shop(tmp_path, cleanly=False) as it:
        it.put(range(12))
        await asyncio.gather(it.node.reset(), it.node.reset())
        assert it.node.catalog.disk_names() == []
        assert await it.served(range(12)) == []
    async with shop(tmp_path) as it:
        assert it.node.catalog.disk_names() == []


# What others are told


def told(it: Shop) -> StoreReports:
    return StoreReports(it.node.catalog, store=StoreId("shop"), incarnation=1, address="unix:s", ssd=it.node.ssd)


async def test_conductors_are_told_what_is_on_the_disk(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        reports = told(it)
        ledger = reports.ledger()
        first = reports.compose(ledger, 1, False)
        it.put(FEW)
        await it.written_behind()
        second = reports.compose(ledger, 2, False)
        assert (first.ssd_gained, set(second.ssd_gained)) == ((), set(names(FEW)))
        assert second.ssd == SsdReport("on", "", 64, 4, 0)
        await it.node.reset()
        third = reports.compose(ledger, 3, False)
        assert (third.ssd_gained, set(third.ssd_lost)) == ((), set(names(FEW)))
    async with shop(tmp_path, slots=8) as it:
        it.put(FEW)
        await it.written_behind()
        reports = told(it)
        snapshot = reports.compose(reports.ledger(), 1, False)
        assert (snapshot.snapshot, set(snapshot.ssd_gained)) == (True, set(names(FEW)))
        assert await it.served(FEW) == list(FEW)
        (tmp_path / "ssd" / "shop.kv").unlink()
        it.put([9])
        await it.written_behind()
        assert reports.compose(reports.ledger(), 2, False).ssd == SsdReport("off", "the file was removed")


async def test_metrics_tell_the_state_of_the_tier_and_what_went_each_way(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        it.put(FEW)
    async with shop(tmp_path) as it:
        await it.served([*FEW, 99])
        it.put([50])
        await it.written_behind()
        registry = StoreMetrics(it.node.catalog, it.node.ssd).registry

        def value(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(f"moonpool_store_{name}", labels)

        assert [value("ssd_state", state=state) for state in ("opening", "on", "off")] == [0, 1, 0]
        assert [value("ssd_slots", state=state) for state in ("free", "writing", "held")] == [59, 0, 5]
        assert [value("ssd_blocks_total", way=way) for way in ("written", "read")] == [1, 4]
        assert value("ssd_bytes_total", way="read") == 4 * STRIDE
        assert [value("blocks_looked_up_total", tier=tier) for tier in ("dram", "ssd", "none")] == [0, 4, 1]
        assert value("ssd_pending_blocks") == value("ssd_oldest_pending_seconds") == 0


# A disk that fails


class Failing(SsdFile):
    """A file whose disk does what it is told to."""

    failure: OSError | None = None

    def write(self, slot: int, name: BlockName, checksum: int, tokens: int, payload: memoryview) -> None:
        if self.failure is not None:
            raise self.failure
        super().write(slot, name, checksum, tokens, payload)

    def read(self, slot: int, name: BlockName, checksum: int, into: memoryview) -> bool:
        if self.failure is not None:
            raise self.failure
        return super().read(slot, name, checksum, into)


class Disk:
    """Opens its file as a store does, and keeps hold of it."""

    def __init__(self) -> None:
        self.file: Failing | None = None

    def open(self, path: Path, size_bytes: int, fingerprint: bytes, layout: KvLayout) -> SsdFile:
        file = Failing.open(path, size_bytes, fingerprint=fingerprint, layout=layout)
        assert isinstance(file, Failing)
        self.file = file
        return file

    def fails(self, number: int) -> None:
        assert self.file is not None
        self.file.failure = OSError(number, os.strerror(number))


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
async def test_a_disk_that_fails_to_write_is_given_up_and_the_service_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    disk = Disk()
    async with shop(tmp_path, open_file=disk.open) as it:
        it.put([1, 2])
        await it.written_behind()
        disk.fails(number)
        it.put(range(10, 20))
        await it.written_behind()
        assert (it.ssd.state, it.ssd.reason) == (SsdState.OFF, os.strerror(number))
        await it.ssd.at_rest()
        assert it.counts.disk is None
        assert await it.served(range(10, 20)) == list(range(10, 20))
        it.put(range(20, 24))
        assert await it.served(range(20, 24)) == list(range(20, 24))
        it.node.catalog.check()
    (error,) = errors(caplog)
    assert error.message == "ssd off"


async def test_whoever_waits_for_a_disk_that_fails_is_told_at_once_that_blocks_are_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with shop(tmp_path) as it:
        it.put(range(12))
    disk = Disk()
    async with shop(tmp_path, open_file=disk.open) as it:
        disk.fails(errno.EIO)
        assert await it.served(range(12)) == []
        assert it.ssd.state is SsdState.OFF
        async with asyncio.timeout(PATIENCE_S):  # what was to be read into is free again, as each request ends
            while it.counts.free < it.counts.total:  # noqa: ASYNC110 - what is watched has no event to wait for
                await asyncio.sleep(0.002)
    assert len(errors(caplog)) == 1


async def test_a_file_that_vanishes_switches_the_tier_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with shop(tmp_path) as it:
        it.put(FEW)
        await it.written_behind()
        (tmp_path / "ssd" / "shop.kv").unlink()
        it.put(range(10, 14))
        await it.written_behind()
        assert (it.ssd.state, it.ssd.reason) == (SsdState.OFF, "the file was removed")
        assert await it.served([*FEW]) == list(FEW), "from memory"
    assert len(errors(caplog)) == 1


# A disk that comes back

SOON_S = 0.01


async def test_a_file_that_was_removed_is_made_anew_and_filled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with shop(tmp_path, cleanly=False, reopen_s=SOON_S) as it:
        it.put(FEW)
        await it.written_behind()
        (tmp_path / "ssd" / "shop.kv").unlink()
        it.put([10])
        await it.reaches(SsdState.OFF)
        await it.reaches(SsdState.ON)
        await it.written_behind()
    async with shop(tmp_path) as it:
        assert await it.served([*FEW]) == list(FEW)
        assert await it.served([10]) == [10]
    assert len(errors(caplog)) == 1


async def test_a_file_whose_place_another_took_is_opened_anew_and_the_tier_is_well_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It was renamed, so what is written to it is not lost for the disk, but for every later start."""
    path = tmp_path / "ssd" / "shop.kv"
    async with shop(tmp_path, cleanly=False, reopen_s=SOON_S) as it:
        it.put(FEW)
        await it.written_behind()
        path.rename(tmp_path / "elsewhere")
        path.write_bytes(b"something else")
        it.put([10])
        await it.reaches(SsdState.OFF)
        assert it.ssd.reason == "another file was put in its place"
        await it.reaches(SsdState.ON)
        assert it.ssd.reason == "", "status pages say nothing of it any more"
        await it.written_behind()
    async with shop(tmp_path) as it:
        assert await it.served([*FEW]) == list(FEW)
    assert len(errors(caplog)) == 1


async def test_of_a_file_that_was_cut_the_rest_is_found_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with shop(tmp_path, ssd_slots=8) as it:
        it.put(FEW)
    path = tmp_path / "ssd" / "shop.kv"
    async with shop(tmp_path, ssd_slots=8, reopen_s=SOON_S) as it:
        os.truncate(path, FIRST_SLOT + 2 * STRIDE)
        assert await it.served(FEW) == []
        await it.reaches(SsdState.ON)
        assert path.stat().st_size == FIRST_SLOT + 8 * STRIDE
        assert await it.served(FEW) == list(FEW)[:2]
        it.put(list(FEW)[2:])
        await it.written_behind()
    async with shop(tmp_path, ssd_slots=8) as it:
        assert await it.served(FEW) == list(FEW)
    (error,) = errors(caplog)
    assert "the file was cut to" in str(vars(error))


async def test_a_disk_that_failed_is_used_again_once_it_works(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    async with shop(tmp_path, open_file=disk.open, reopen_s=SOON_S) as it:
        disk.fails(errno.EIO)
        it.put(FEW)
        await it.reaches(SsdState.OFF)
        await it.reaches(SsdState.ON)
        await it.written_behind()
        it.node.catalog.check()
    async with shop(tmp_path) as it:
        assert await it.served(FEW) == list(FEW)
    assert len(errors(caplog)) == 1


async def test_a_file_that_another_store_has_is_taken_once_that_one_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as both:
        first = await both.enter_async_context(shop(tmp_path))
        async with shop(tmp_path, reopen_s=SOON_S) as second:
            assert second.ssd.state is SsdState.OFF
            first.put(FEW)
            await first.written_behind()
            await both.aclose()
            await second.reaches(SsdState.ON)
            assert await second.served(FEW) == list(FEW)
    assert len(errors(caplog)) == 1, "said once, however often it was tried"


async def test_too_little_room_on_the_disk_is_one_line_and_no_tier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = os.posix_fallocate

    def full(descriptor: int, offset: int, length: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".kv"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", full)
    async with shop(tmp_path) as it:
        assert it.ssd.state is SsdState.OFF
        assert "give a smaller --ssd" in it.ssd.reason
        it.put(FEW)
        assert await it.served(FEW) == list(FEW)
    assert len(errors(caplog)) == 1


async def test_a_second_store_on_the_same_file_does_without(tmp_path: Path) -> None:
    async with shop(tmp_path) as first, shop(tmp_path) as second:
        assert (first.ssd.state, second.ssd.state) == (SsdState.ON, SsdState.OFF)
        assert "in use by another store" in second.ssd.reason
        second.put(FEW)
        assert await second.served(FEW) == list(FEW)


class Hanging(Failing):
    """A disk that does not answer until it is let through."""

    through = threading.Event()

    def write(self, slot: int, name: BlockName, checksum: int, tokens: int, payload: memoryview) -> None:
        assert self.through.wait(10)
        super().write(slot, name, checksum, tokens, payload)


async def test_a_disk_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ssd_moves_module, "HANG_S", 0.02)
    Hanging.through.clear()

    def open_hanging(path: Path, size_bytes: int, fingerprint: bytes, layout: KvLayout) -> SsdFile:
        return Hanging.open(path, size_bytes, fingerprint=fingerprint, layout=layout)

    async with shop(tmp_path, open_file=open_hanging) as it:
        it.put(FEW)
        await it.written_behind()
        assert (it.ssd.state, it.ssd.reason) == (SsdState.OFF, "the disk does not answer")
        assert await it.served(FEW) == list(FEW)
        await it.node.reset()
        it.node.catalog.check()
        Hanging.through.set()
    assert len(errors(caplog)) == 1


# Opening


class Gate:
    """Holds up whoever opens the file until it is let through."""

    def __init__(self) -> None:
        self.through = threading.Event()

    def open(self, *asked: Any) -> SsdFile:  # Any: the arguments of OpenFile, as they come
        assert self.through.wait(10)
        return open_plainly(*asked)


async def test_a_store_whose_file_takes_long_to_search_serves_meanwhile_and_finds_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop(tmp_path) as it:
        it.put(FEW)
    monkeypatch.setattr(node_module, "OPENING_S", 0.01)
    gate = Gate()
    async with shop(tmp_path, open_file=gate.open) as it:
        assert it.ssd.state == "opening"
        it.put([10, 11])
        assert await it.served([10, 11, 1]) == [10, 11]
        gate.through.set()
        await it.ssd.opened(10)
        assert it.ssd.state is SsdState.ON
        await it.written_behind()
        assert set(it.node.catalog.disk_names()) == set(names([*FEW, 10, 11]))
        assert await it.served(FEW) == list(FEW)


async def test_what_a_file_holds_is_taken_over_in_steps_between_which_the_store_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop(tmp_path) as it:
        it.put(range(12))
    monkeypatch.setattr(node_module, "OPENING_S", 0.0)
    monkeypatch.setattr(plan_module, "ATTACHED_AT_ONCE", 3)
    turn, steps = 0, []
    find = DiskBlocks.find

    async def others() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def counted(disk: DiskBlocks, entries: Iterable[DiskEntry], stamp: int) -> int:
        some = list(entries)
        steps.append((turn, len(some)))
        return find(disk, some, stamp)

    monkeypatch.setattr(DiskBlocks, "find", counted)
    async with shop(tmp_path) as it:
        others_turns = asyncio.create_task(others())
        await it.ssd.opened(10)
        others_turns.cancel()
        assert sum(blocks for _, blocks in steps) == 12
        assert max(blocks for _, blocks in steps) == 3, "no step is longer"
        assert len({at for at, _ in steps}) == len(steps), "others had their turn between any two"
        assert await it.served(range(12)) == list(range(12))
        it.node.catalog.check()


async def test_a_reset_while_a_file_is_searched_forgets_what_is_found_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop(tmp_path) as it:
        it.put(FEW)
    monkeypatch.setattr(node_module, "OPENING_S", 0.0)
    gate = Gate()
    async with shop(tmp_path, open_file=gate.open) as it:
        resetting = asyncio.create_task(it.node.reset())
        await asyncio.sleep(0)
        gate.through.set()
        await resetting
        assert it.ssd.state is SsdState.ON
        assert await it.served(FEW) == []
    async with shop(tmp_path) as it:
        assert it.node.catalog.disk_names() == []


async def test_a_store_that_stops_while_its_file_is_searched_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_module, "OPENING_S", 0.01)
    gate = Gate()
    async with shop(tmp_path, open_file=gate.open) as it:
        it.put(FEW)
        threading.Timer(0.02, gate.through.set).start()
    async with shop(tmp_path) as it:
        await it.ssd.opened(10)
        assert it.ssd.state is SsdState.ON, "nobody has it locked"


# A whole process's life


async def life(it: Rig, *, by_index: bool, cached_tokens: int) -> None:
    """A store's and a worker's, from start to SIGTERM, with one prompt in between."""
    store = await it.store(ssd=1 << 20)
    worker = await it.worker(store="store-0")
    await it.until("the worker has a session", lambda: bool(store.node.sessions))
    assert store.node.ssd is not None
    assert store.node.ssd.state is SsdState.ON, "a hello waits for the file"
    assert store.node.ssd.scan is not None
    assert store.node.ssd.scan.from_snapshot is by_index
    client = await it.client(worker)
    assert (await client.decode(list(range(200)))).cached_tokens == cached_tokens
    await worker.stop()
    await store.stop()


async def test_a_store_that_is_stopped_leaves_an_index_and_its_blocks_to_the_next(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        await life(it, by_index=False, cached_tokens=0)
        await life(it, by_index=True, cached_tokens=192)
    assert (tmp_path / "data" / "ssd" / "store-0.index").exists()
