"""What a live conductor decided is decided again from its journal: live and simulated are one."""

import time
from pathlib import Path
from random import Random

import pytest

from kvstore.names import BlockName
from scheduler.admission import Admission
from scheduler.conductor import Conductor
from scheduler.journal import Begins, Journal, replay
from scheduler.vocabulary import Ask, Measured, Outcome, Placement, Promise, Rejection, RequestId, Role
from services.conductor.server import ConductorService
from services.wire import placement_codec
from services.wire.channel import open_channel, serve
from services.wire.pb import conductor_pb2_grpc
from tests.services.rig import rig

REQUESTS = 500


def conductor(admission: str) -> Conductor:
    return Conductor(admission=admission, promise=Promise(ttft_s=0.05, tpot_s=0.05), policy="random", seed=3)


def names(rng: Random) -> tuple[BlockName, ...]:
    """One of twenty prefixes, and blocks of its own."""
    shared = [BlockName(bytes([rng.randrange(20), depth]) * 8) for depth in range(rng.randrange(8))]
    return (*shared, *(BlockName(rng.randbytes(16)) for _ in range(rng.randrange(4))))


@pytest.mark.parametrize("admission", ["predictive", "baseline"])
async def test_500_requests_of_a_live_run_are_decided_alike_from_its_journal(tmp_path: Path, admission: str) -> None:
    journal, rng = Journal(conductor(admission)), Random(5)
    service = ConductorService(journal, name="conductor-0", clock=time.monotonic)
    async with rig(tmp_path) as it:
        server = await serve(
            it.target("conductor-0"), lambda to: conductor_pb2_grpc.add_ConductorServicer_to_server(service, to)
        )
        await it.store(conductors=["conductor-0"])
        for number, role in enumerate((Role.PREFILL, Role.PREFILL, Role.DECODE, Role.DECODE)):
            await it.worker(f"worker-{number}", role=role, store="store-0", conductors=["conductor-0"])
        await it.until("all have reported", lambda: len(journal.snapshot().workers) == 4)
        async with open_channel(it.target("conductor-0")) as channel:
            stub = conductor_pb2_grpc.ConductorStub(channel)
            for number in range(REQUESTS):
                asked = names(rng)
                wants_s = 1e-9 if number % 50 == 0 else None  # however fast this machine is, some are refused
                ask = Ask(
                    RequestId(f"{number}"),
                    asked,
                    64 * len(asked) + 17,
                    100,
                    ttft_slo_s=wants_s,
                    tenant=rng.choice("ab"),
                )
                answer = placement_codec.answer_from_wire(await stub.Place(placement_codec.ask_to_wire(ask)))
                assert answer.request == ask.request
                if isinstance(answer, Placement) and answer.second_check:
                    await stub.DecodeBegins(placement_codec.begins_to_wire(ask.request))
                for outcome in rng.choice([[], [Outcome.HANDED_OVER], [Outcome.HANDED_OVER, Outcome.FINISHED]]):
                    measured = Measured(rng.random() / 10, 0.01)
                    await stub.ReportOutcome(placement_codec.outcome_to_wire(ask.request, outcome, measured))
                journal.tick(now=time.monotonic())
        await server.stop(0)

    asks = [entry for entry in journal.entries if isinstance(entry.fact, Ask)]
    assert len(asks) == REQUESTS
    assert {type(entry.decision) for entry in asks} == {Placement, Rejection}
    assert any(isinstance(entry.fact, Begins) for entry in journal.entries) == Admission(admission).checks_again
    assert [decision for _, decision in replay(journal.entries, conductor(admission))] == [
        entry.decision for entry in journal.entries
    ]
    other = Conductor(admission="predictive", promise=Promise(ttft_s=0.05, tpot_s=0.05), policy="random", seed=4)
    assert any(decision != entry.decision for entry, decision in replay(journal.entries, other))
