"""The conductor over gRPC: workers and stores report, gateways ask, strangers are refused."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from kvstore.names import BlockName
from scheduler.vocabulary import Ask, Outcome, Placement, Rejection, RejectionCode, RequestId, Role, WorkerId
from services.runtime.process import Refusal
from services.wire import placement_codec
from services.wire.channel import open_channel
from services.wire.errors import PeerRefused, rpc_errors
from services.wire.pb import conductor_pb2, conductor_pb2_grpc
from services.wire.reporting import Reporter
from tests.services.rig import Rig, rig

ASK = Ask(RequestId("r"), (BlockName(b"n" * 16),), 20, 16)


async def place(it: Rig, ask: Ask = ASK) -> Placement | Rejection:
    async with open_channel(it.target("conductor-0")) as channel:
        answer = await conductor_pb2_grpc.ConductorStub(channel).Place(
            placement_codec.ask_to_wire(ask), wait_for_ready=True
        )
        return placement_codec.answer_from_wire(answer)


async def placed(it: Rig) -> Placement:
    """Once the conductor has heard for long enough to place anybody."""
    async with asyncio.timeout(10):
        while not isinstance(answer := await place(it), Placement):
            assert "has just started" in answer.reason
    return answer


async def test_an_empty_cluster_says_that_nobody_can_serve(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        await it.conductor()
        answer = await place(it)
        assert isinstance(answer, Rejection)
        assert answer.code is RejectionCode.UNAVAILABLE
        assert answer.retry_after_s > 0


async def test_a_cluster_is_known_by_its_reports_and_requests_are_placed_in_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        await it.conductor(inline_max_tokens=0)
        store = await it.store(conductors=["conductor-0"])
        await it.worker("prefill-0", role=Role.PREFILL, store="store-0", conductors=["conductor-0"])
        decode = await it.worker("decode-0", role=Role.DECODE, store="store-0", conductors=["conductor-0"])
        await known(it, workers=2, stores=1)
        answer = await placed(it)
        assert answer.prefill is not None
        assert (answer.prefill.worker, answer.decode.worker) == ("prefill-0", "decode-0")
        assert answer.decode.address == it.target("decode-0")
        cluster = await it.cluster()
        assert cluster.conductor == "conductor-0"
        assert cluster.identity == decode.worker.identity
        assert {worker.store for worker in cluster.workers} == {"store-0"}
        assert cluster.stores[0].slots_total == store.node.catalog.snapshot().total
        async with open_channel(it.target("conductor-0")) as channel:
            report = placement_codec.outcome_to_wire(ASK.request, Outcome.HANDED_OVER)
            await conductor_pb2_grpc.ConductorStub(channel).ReportOutcome(report)
        cluster = await it.cluster()
        assert (cluster.handoffs, sum(cluster.placements.values())) == (1, 1)


async def test_a_conductor_that_restarts_learns_everything_anew(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        conductor = await it.conductor()
        await it.store(conductors=["conductor-0"])
        await it.worker("worker-0", store="store-0", conductors=["conductor-0"])
        await known(it, workers=1, stores=1)
        await conductor.stop()
        await it.conductor()
        await known(it, workers=1, stores=1)
        assert (await placed(it)).decode.worker == "worker-0"


async def test_a_worker_of_another_deployment_is_named_in_both_logs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig(tmp_path) as it:
        await it.conductor()
        ours = await it.worker("worker-0", conductors=["conductor-0"])
        async with asyncio.timeout(10):
            while not (await it.cluster()).workers:
                pass
        report = ours.worker.reports.compose(1, True)
        other = replace(report, worker=WorkerId("worker-9"), identity=replace(report.identity, dtype="other"))
        reporter = Reporter(it.target("conductor-0"), lambda sequence, snapshot: other)
        with pytest.raises(Refusal, match=r"refuses this process: .*dtype"):
            await asyncio.wait_for(reporter.run(), 10)
    (away,) = (record for record in caplog.records if record.message == "turned a process away")
    said = vars(away)["fields"]
    assert said["process"] == f"worker-9 at {report.address}"
    assert "dtype" in said["reason"]


async def test_malformed_messages_are_refused(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        await it.conductor()
        async with open_channel(it.target("conductor-0")) as channel:
            stub = conductor_pb2_grpc.ConductorStub(channel)
            with pytest.raises(PeerRefused, match="16 bytes"), rpc_errors():
                await stub.Place(conductor_pb2.Ask(request="r", names=b"x"), wait_for_ready=True)
            with pytest.raises(PeerRefused, match="names its worker"), rpc_errors():
                await stub.ReportWorker(conductor_pb2.WorkerReport())
            with pytest.raises(PeerRefused, match="names its store"), rpc_errors():
                await stub.ReportStore(conductor_pb2.StoreReport())
            with pytest.raises(PeerRefused, match="outcome"), rpc_errors():
                await stub.ReportOutcome(conductor_pb2.OutcomeReport(request="r", outcome="eaten"))


async def known(it: Rig, *, workers: int, stores: int) -> None:
    while True:
        cluster = await it.cluster()
        if len(cluster.workers) == workers and len(cluster.stores) == stores and cluster.stores[0].identity is not None:
            return
