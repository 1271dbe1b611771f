"""Two conductors at once: everybody tells both, the first that answers decides, one that restarts soon knows all."""

import time
from pathlib import Path

from kvstore.names import block_names
from scheduler.conductor import Conductor
from scheduler.journal import Journal
from scheduler.vocabulary import Ask, Outcome, Placement, RequestId, StoreReport
from services.conductor.server import ConductorService
from services.gateway.cluster import ClusterClient
from services.wire.channel import serve
from services.wire.pb import conductor_pb2_grpc
from services.wire.served import Served
from tests.services.rig import BLOCK_TOKENS, Rig, rig, root

PROMPT = [number % 200 for number in range(6 * BLOCK_TOKENS + 1)]
NAMES = tuple(block_names(root(), PROMPT, BLOCK_TOKENS))
CACHED = 6 * BLOCK_TOKENS
CONDUCTORS = ["conductor-0", "conductor-1"]


def ask(number: int) -> Ask:
    return Ask(RequestId(f"{number}"), NAMES, len(PROMPT), 10)


async def conducted(it: Rig, name: str) -> tuple[Journal, Served]:
    """A new conductor process, so to speak, which knows nothing."""
    journal = Journal(Conductor())
    service = ConductorService(journal, name=name, clock=time.monotonic)
    server = await serve(it.target(name), lambda to: conductor_pb2_grpc.add_ConductorServicer_to_server(service, to))
    return journal, server


def knows(journal: Journal) -> bool:
    beliefs = journal.conductor._beliefs
    return bool(beliefs.workers) and CACHED // BLOCK_TOKENS in beliefs.prefixes.lengths(NAMES).values()


async def test_the_next_one_decides_alike_and_one_that_restarts_is_useful_after_one_report_of_each(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as it:
        (first, server), (second, other) = [await conducted(it, name) for name in CONDUCTORS]
        await it.store(conductors=CONDUCTORS)
        worker = await it.worker(store="store-0", conductors=CONDUCTORS)
        client = await it.client(worker)
        await client.decode(PROMPT, max_tokens=1)
        await it.until("both know", lambda: knows(first) and knows(second))
        gateway = ClusterClient([it.target(name) for name in CONDUCTORS])

        placed = await gateway.place(ask(1))
        assert isinstance(placed, Placement)
        assert placed.predicted_cached_tokens == CACHED
        gateway.tell(RequestId("1"), Outcome.FINISHED)
        await it.until("both were told", lambda: "Told" in {type(entry.fact).__name__ for entry in second.entries})
        await server.stop(None)
        again = await gateway.place(ask(2))
        assert isinstance(again, Placement)
        assert again.predicted_cached_tokens == CACHED
        assert [entry.fact for entry in second.entries if isinstance(entry.fact, Ask)] == [ask(2)]

        restarted, server = await conducted(it, CONDUCTORS[0])
        await it.until("it has heard of both", lambda: knows(restarted))
        reports = [entry.fact for entry in restarted.entries if isinstance(entry.fact, StoreReport)]
        assert any(report.snapshot and set(NAMES) <= set(report.gained) for report in reports[:2])
        number = 3
        while not any(isinstance(entry.fact, Ask) for entry in restarted.entries):  # once its channel is back
            assert number < 10_000, "the first in order is never asked again"
            third = await gateway.place(ask(number))
            assert isinstance(third, Placement)
            assert third.predicted_cached_tokens == CACHED
            number += 1
        await gateway.close()
        await server.stop(None)
        await other.stop(None)
