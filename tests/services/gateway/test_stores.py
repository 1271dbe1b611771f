"""Workers are told which store their blocks are for, and where to fetch what they lack."""

import pytest

from scheduler.vocabulary import StoreId, StoreTarget
from services.wire.codec import store_target_to_wire
from services.wire.pb.common_pb2 import StoreTarget as WireTarget
from services.wire.pb.worker_pb2 import DecodeRequest, PrefillRequest
from tests.services.gateway.conftest import Gateway
from tests.services.gateway.fakes.cluster import FakeCluster

NEAR = StoreTarget(StoreId("store-0"), "10.0.0.1:7201")
FAR = StoreTarget(StoreId("store-1"), "10.0.0.2:7201")
BEST = StoreTarget(StoreId("store-2"), "10.0.0.3:7201")


async def complete(gateway: Gateway) -> None:
    answer = await gateway.http.post("/v1/completions", json={"prompt": "once upon a time", "max_tokens": 5})
    assert answer.status_code == 200, answer.text


def push_to(request: PrefillRequest) -> WireTarget | None:
    return request.push_to if request.HasField("push_to") else None


def source(request: PrefillRequest | DecodeRequest) -> WireTarget | None:
    return request.source if request.HasField("source") else None


async def test_between_two_stores_blocks_are_pushed_and_decode_may_fetch_from_the_first(
    gateway: Gateway, cluster: FakeCluster
) -> None:
    cluster.conductor.hand_over = True
    cluster.conductor.homes = {cluster.prefill.name: NEAR, cluster.decode.name: FAR}
    cluster.conductor.source = BEST
    await complete(gateway)
    (prefill,), (decode,) = cluster.prefill.prefills, cluster.decode.decodes
    assert push_to(prefill) == store_target_to_wire(FAR)
    assert source(prefill) == store_target_to_wire(BEST)
    assert source(decode) == store_target_to_wire(NEAR)


@pytest.mark.parametrize("home", [NEAR, None])
async def test_within_one_store_nothing_is_pushed_or_fetched(
    gateway: Gateway, cluster: FakeCluster, home: StoreTarget | None
) -> None:
    cluster.conductor.hand_over = True
    if home is not None:
        cluster.conductor.homes = {cluster.prefill.name: home, cluster.decode.name: home}
    await complete(gateway)
    (prefill,), (decode,) = cluster.prefill.prefills, cluster.decode.decodes
    assert push_to(prefill) is source(prefill) is source(decode) is None


async def test_a_worker_that_prefills_inline_fetches_from_where_the_placement_says(
    gateway: Gateway, cluster: FakeCluster
) -> None:
    cluster.conductor.homes = {cluster.decode.name: FAR}
    cluster.conductor.source = BEST
    await complete(gateway)
    (decode,) = cluster.decode.decodes
    assert source(decode) == store_target_to_wire(BEST)
