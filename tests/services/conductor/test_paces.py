"""What two live stores carry reaches the conductor, and is decided alike from its journal."""

import time
from pathlib import Path

import pytest

from kvstore import tcp_pace
from kvstore.layout import Identity
from kvstore.tcp_wire import Wire
from scheduler.conductor import Conductor
from scheduler.journal import Journal, replay
from scheduler.vocabulary import Carried, Placement, Role, StoreId, StoreReport
from services.conductor.server import ConductorService
from services.wire.channel import serve
from services.wire.pb import conductor_pb2_grpc
from tests.scheduler.build import ask, worker_report
from tests.services.store.pair import ENGINE, LAYOUT, names, pair

IDENTITY = Identity("toy", ENGINE.weights, ENGINE.dtype, LAYOUT.block_tokens, LAYOUT.digest)
SIZE = LAYOUT.block_bytes
HERE, THERE = StoreId("here"), StoreId("there")


def carried(journal: Journal, target: StoreId, source: StoreId | None) -> list[Carried]:
    """What the reports of one store have told of one source."""
    reports = [entry.fact for entry in journal.entries if isinstance(entry.fact, StoreReport)]
    return [each for report in reports if report.store == target for each in report.carried if each.source == source]


def told(journal: Journal, target: StoreId, source: StoreId | None) -> int:
    """Its bytes."""
    return sum(each.size_bytes for each in carried(journal, target, source))


async def test_what_two_live_stores_carry_is_believed_and_decided_alike_from_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks are small here, and so are there before a thread wakes up.
    monkeypatch.setattr(tcp_pace, "LEAST_BYTES", 1)
    monkeypatch.setattr(Wire, "waiting_bytes", lambda _: 0)
    journal = Journal(Conductor())
    service = ConductorService(journal, name="conductor-0", clock=time.monotonic)
    target = f"unix:{tmp_path / 'conductor-0'}.sock"
    async with pair(tmp_path, there_slots=32, conductor=(target,), ssd=16 << 20, data_dir=tmp_path / "data") as it:
        server = await serve(target, lambda to: conductor_pb2_grpc.add_ConductorServicer_to_server(service, to))
        try:
            await it.rig.until("both have reported", lambda: len(journal.snapshot().stores) == 2)
            there, ssd = it.there, it.there.node.ssd
            assert ssd is not None
            await there.put(names(4, "first"))
            assert len(await it.here.acquire(names(4, "first"), source=there)) == 4
            await it.rig.until("the fetch is told", lambda: told(journal, HERE, THERE) == 4 * SIZE)
            await it.at_rest()
            for number in range(8):
                assert await ssd.written_behind(10)
                await there.put(names(4, f"other {number}"))
            assert len(await there.acquire(names(4, "first"))) == 4, "they were on its SSD only"
            await it.rig.until("reads are told", lambda: told(journal, THERE, None) >= 4 * SIZE)
            for number, store in enumerate((HERE, THERE)):
                role = Role.DECODE if number else Role.PREFILL
                journal.worker_reported(
                    worker_report(f"worker-{number}", role, store=store, identity=IDENTITY), now=time.monotonic()
                )
            journal.tick(now=time.monotonic())
            for number in range(10):
                answer = journal.place(ask(f"{number}", 100 * number + 50), now=time.monotonic())
                assert isinstance(answer, Placement)
        finally:
            await server.stop(0)
    for path in (tmp_path / "data").rglob("*.kv*"):
        path.unlink()

    links, reads = carried(journal, HERE, THERE), carried(journal, THERE, None)
    assert all(0.0 < each.seconds < 60.0 for each in (*links, *reads))
    accuracy = journal.snapshot().accuracy
    assert accuracy.links.count >= len(links)
    assert accuracy.disks.count >= len(reads)
    assert [decision for _, decision in replay(journal.entries, Conductor())] == [
        entry.decision for entry in journal.entries
    ]
