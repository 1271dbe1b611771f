"""Several conductors before one gateway: the first that answers decides, and what that costs where one does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from scheduler.vocabulary import Ask, Outcome, Placement, Rejection, RejectionCode, RequestId
from services.gateway.cluster import ClusterClient
from services.wire.channel import serve
from services.wire.errors import PeerUnavailable
from services.wire.pb import conductor_pb2_grpc
from tests.services.gateway.fakes.cluster import FakeCluster
from tests.services.gateway.fakes.conductor import FakeConductor, nobody

PATIENCE_S = 20.0
"""More than any answer takes: whoever is to be too late says so."""


def ask(number: int) -> Ask:
    return Ask(RequestId(f"{number}"), (), 16, 10)


@asynccontextmanager
async def asking(cluster: FakeCluster) -> AsyncIterator[tuple[ClusterClient, FakeConductor, FakeConductor]]:
    """A gateway's client, and the two that it asks, in this order; both know the same workers."""
    first, second = cluster.conductor, FakeConductor(workers=cluster.conductor.workers)
    target = f"{cluster.conductor_target}-too"
    server = await serve(target, lambda to: conductor_pb2_grpc.add_ConductorServicer_to_server(second, to))
    client = ClusterClient([cluster.conductor_target, target], conductor_s=PATIENCE_S)
    try:
        yield client, first, second
    finally:
        await client.close()
        for conductor in (first, second):
            conductor.going.set()
        await server.stop(None)


async def test_one_that_hangs_costs_its_time_once_and_is_asked_first_again_when_it_answers(
    cluster: FakeCluster,
) -> None:
    async with asking(cluster) as (client, first, second):
        first.late = True
        for number in range(20):
            assert isinstance(await client.place(ask(number)), Placement)
        assert [it.request for it in first.asks] == ["0"]
        assert len(second.asks) == 20

        first.late = False
        async with asyncio.timeout(PATIENCE_S):
            while len(first.asks) == 1:
                assert isinstance(await client.place(ask(99)), Placement)
        before = len(second.asks)
        assert isinstance(await client.place(ask(100)), Placement)
        assert len(second.asks) == before


async def test_one_that_hangs_is_asked_all_the_same_where_there_is_no_other(cluster: FakeCluster) -> None:
    client = ClusterClient([cluster.conductor_target], conductor_s=PATIENCE_S)
    cluster.conductor.late = True
    for number in range(2):
        with pytest.raises(PeerUnavailable, match="no conductor answers"):
            await client.place(ask(number))
    cluster.conductor.late = False
    assert isinstance(await client.place(ask(2)), Placement)
    assert len(cluster.conductor.asks) == 3
    await client.close()


async def test_one_that_hangs_is_waited_for_no_longer_than_it_may_take(cluster: FakeCluster) -> None:
    client = ClusterClient([cluster.conductor_target], conductor_s=0.1)
    cluster.conductor.going.clear()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(PeerUnavailable, match="no conductor answers"):
            await client.place(ask(1))
    await client.close()


async def test_one_that_knows_of_nobody_does_not_decide_where_another_knows_better(cluster: FakeCluster) -> None:
    async with asking(cluster) as (client, first, second):
        first.rejections = [nobody()]
        assert isinstance(await client.place(ask(1)), Placement)
        assert (len(first.asks), len(second.asks)) == (1, 1)

        first.rejections, second.rejections = [nobody(2.0)], [nobody(3.0)]
        assert await client.place(ask(2)) == nobody(2.0)


@pytest.mark.parametrize("code", [RejectionCode.OVERLOADED, RejectionCode.UNATTAINABLE])
async def test_a_refusal_decides(cluster: FakeCluster, code: RejectionCode) -> None:
    """Else whoever is refused by one would be taken by the other, which promises the same workers."""
    async with asking(cluster) as (client, first, second):
        refused = Rejection(RequestId("1"), code, "Not now.", 1.0)
        first.rejections = [refused]
        assert await client.place(ask(1)) == refused
        assert second.asks == []


async def test_one_that_hangs_does_not_keep_the_other_from_hearing_outcomes(cluster: FakeCluster) -> None:
    async with asking(cluster) as (client, first, second):
        first.going.clear()
        client.tell(RequestId("1"), Outcome.FINISHED)
        async with asyncio.timeout(PATIENCE_S):
            await second.heard(Outcome.FINISHED)
        assert first.outcomes == []
        first.going.set()


async def test_whoever_is_no_longer_known_is_asked_no_more(cluster: FakeCluster) -> None:
    async with asking(cluster) as (client, first, second):
        first.late = True
        await client.place(ask(1))  # from now on it is tried whether the first is back
        await client._conductors.reach([f"{cluster.conductor_target}-too"])
        first.late = False
        await client.place(ask(2))
        assert [it.request for it in first.asks] == ["1"]
        assert [it.request for it in second.asks] == ["1", "2"]
