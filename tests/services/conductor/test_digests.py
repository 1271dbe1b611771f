"""A store reports to a conductor over gRPC; whatever makes them disagree is found by the next digest and healed."""

import asyncio
import logging
import time
from functools import partial
from pathlib import Path

import pytest

from kvstore.digest import digest_of
from kvstore.names import BlockName
from scheduler.conductor import Conductor
from scheduler.vocabulary import StoreId
from services.conductor.server import ConductorService
from services.store.reports import StoreReports
from services.wire.channel import serve
from services.wire.pb import conductor_pb2_grpc
from services.wire.reporting import Reporter
from tests.services.rig import rig
from tests.services.store.test_reports import catalog, name, put

STORE = StoreId("store-0")


class Lossy(StoreReports):
    """Leaves one change untold, as a bug would: the number of the report says that nothing is missing."""

    drops: BlockName | None = None

    def gather(self) -> None:
        super().gather()
        for ledger in self._ledgers:
            if self.drops in ledger.dram.gained:
                del ledger.dram.gained[self.drops]


async def test_what_was_never_told_is_found_and_told_within_one_interval(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held, conductor = catalog(slots=64), Conductor()
    service = ConductorService(conductor, name="conductor-0", clock=time.monotonic)
    reports = Lossy(held, store=STORE, incarnation=1, address="unix:s", digest_every=10)
    reports.drops = name(3)
    prefixes = conductor._beliefs.prefixes
    async with rig(tmp_path) as it:
        server = await serve(
            it.target("conductor-0"), lambda to: conductor_pb2_grpc.add_ConductorServicer_to_server(service, to)
        )
        composed: list[int] = []

        def compose(sequence: int, snapshot: bool) -> object:
            composed.append(sequence)
            return reports.compose(ledger, sequence, snapshot)

        ledger = reports.ledger()
        reporter = Reporter(it.target("conductor-0"), compose, interval_s=0.005)  # type: ignore[arg-type]
        task = asyncio.create_task(reporter.run())
        await asyncio.wait_for(reporter.reached.wait(), 10)
        put(held, [1, 2, 3, 4])
        dropped_at = composed[-1]
        await it.until("the drift is found", lambda: conductor.snapshot().drifts == 1)
        assert composed[-1] <= dropped_at + 12
        everything = partial(digest_of, held.held_names())
        await it.until("it is healed", lambda: prefixes.digests(STORE).dram == everything())
        assert prefixes.held(STORE) == 4

        prefixes.lost(STORE, [name(1)])  # a belief that goes wrong by itself
        await it.until("that is found", lambda: conductor.snapshot().drifts == 2)
        await it.until("that is healed", lambda: prefixes.digests(STORE).dram == everything())
        task.cancel()
        await server.stop(0)
    lines = [it for it in caplog.records if it.levelno == logging.WARNING and "other names" in it.message]
    assert len(lines) == 2
