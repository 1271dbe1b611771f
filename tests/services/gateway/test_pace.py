"""What a placement got, by the gateway's clock; and that every conductor hears of it."""

import asyncio
from typing import Any

import pytest

from scheduler.vocabulary import Measured, Outcome
from services.gateway.pace import Pace
from services.gateway.patience import Patience
from services.gateway.text import Text
from tests.services.gateway.conftest import Gateway, running
from tests.services.gateway.fakes.cluster import FakeCluster
from tests.services.gateway.fakes.conductor import nobody
from tests.services.gateway.fakes.worker import Fault

ASK: dict[str, Any] = {"prompt": "once upon a time", "max_tokens": 30, "temperature": 0}


def test_without_a_token_there_is_nothing_to_measure() -> None:
    assert Pace(asked=1.0).measured is None


def test_one_token_has_a_ttft_only() -> None:
    pace = Pace(asked=1.0)
    pace.heard(1, now=1.5)
    assert pace.measured == Measured(ttft_s=0.5)


def test_tpot_is_per_token_after_the_first_ones_however_they_came() -> None:
    pace = Pace(asked=1.0)
    for count, now in ((2, 1.5), (1, 1.75), (3, 2.0)):
        pace.heard(count, now=now)
        pace.told(now=now)
    assert pace.measured == Measured(ttft_s=0.5, tpot_s=0.125)


def test_a_listener_that_is_slow_is_not_taken_for_a_slow_worker() -> None:
    pace = Pace(asked=0.0)
    pace.heard(1, now=1.0)
    pace.told(now=1.2)
    pace.heard(1, now=2.0)
    assert pace.measured == Measured(ttft_s=1.0)


def test_whoever_is_slow_with_the_last_tokens_holds_nobody_up() -> None:
    pace = Pace(asked=0.0)
    pace.heard(1, now=1.0)
    pace.told(now=1.0)
    pace.heard(1, now=2.0)
    pace.told(now=9.0)
    assert pace.measured == Measured(ttft_s=1.0, tpot_s=1.0)


async def outcomes(cluster: FakeCluster, *expected: Outcome) -> list[tuple[Outcome, Measured | None]]:
    async with asyncio.timeout(5):
        await cluster.conductor.heard(*expected)
    heard = zip(cluster.conductor.outcomes, cluster.conductor.measured, strict=True)
    return [(outcome, measured) for (_, outcome), measured in heard]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("handed_over", [False, True])
async def test_what_a_finished_request_got_is_told(
    gateway: Gateway, cluster: FakeCluster, stream: bool, handed_over: bool
) -> None:
    cluster.conductor.hand_over = handed_over
    await gateway.http.post("/v1/completions", json=ASK | {"stream": stream})
    told = dict(await outcomes(cluster, Outcome.FINISHED))
    assert told.pop(Outcome.HANDED_OVER, None) is None, "it is not over yet"
    got = told.pop(Outcome.FINISHED)
    assert got is not None
    assert got.ttft_s is not None
    assert got.ttft_s > 0
    assert not told


async def test_of_what_never_began_nothing_is_told(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.conductor.workers = [cluster.decode, cluster.other]
    cluster.decode.faults = [Fault()]
    await gateway.http.post("/v1/completions", json=ASK)
    told = dict(await outcomes(cluster, Outcome.FAILED, Outcome.FINISHED))
    assert told[Outcome.FAILED] is None
    assert told[Outcome.FINISHED] is not None


async def test_each_placement_of_a_resumed_stream_has_times_of_its_own(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.conductor.workers = [cluster.decode, cluster.other]
    cluster.decode.faults = [Fault(after=7)]
    await gateway.http.post("/v1/completions", json=ASK)
    told = dict(await outcomes(cluster, Outcome.FAILED, Outcome.FINISHED))
    first, second = told[Outcome.FAILED], told[Outcome.FINISHED]
    assert first is not None
    assert second is not None
    assert first.ttft_s != second.ttft_s


async def test_a_client_that_leaves_has_got_something_too(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.decode.faults = [Fault(after=3, hold=True)]
    async with gateway.http.stream("POST", "/v1/completions", json=ASK | {"stream": True}) as answer:
        await anext(answer.aiter_lines())
    told = dict(await outcomes(cluster, Outcome.CANCELLED))
    assert told[Outcome.CANCELLED] is not None


async def test_waiting_for_somebody_to_be_there_is_no_part_of_it(cluster: FakeCluster, text: Text) -> None:
    cluster.conductor.rejections = [nobody() for _ in range(3)]  # pauses of 0.05, 0.1 and 0.2 s
    async with running(cluster, text, patience=Patience(waiting_s=5.0)) as gateway:
        clock = asyncio.get_running_loop().time
        started = clock()
        await gateway.http.post("/v1/completions", json=ASK)
        lasted_s = clock() - started
        told = dict(await outcomes(cluster, Outcome.FINISHED))
    got = told[Outcome.FINISHED]
    assert got is not None
    assert got.ttft_s is not None
    assert got.ttft_s <= lasted_s - cluster.conductor.asks[-1].waited_s
