"""Decode is called while the prefill's last step goes on, and its first token follows."""

import asyncio
from typing import Any

import grpc
import pytest

from scheduler.vocabulary import Outcome
from tests.services.gateway.conftest import Gateway
from tests.services.gateway.fakes.cluster import FakeCluster
from tests.services.gateway.fakes.worker import Fault, alphabet, letter

ASK: dict[str, Any] = {"prompt": "once upon a time", "max_tokens": 30, "temperature": 0}
PATIENCE_S = 5.0


async def text_of(gateway: Gateway, **fields: object) -> str:
    answer = await gateway.http.post("/v1/completions", json=ASK | fields)
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["text"]
    return text


@pytest.fixture
def in_its_last_step(cluster: FakeCluster) -> FakeCluster:
    """Prefills stay in their last step until ``prefill.last_step`` is set."""
    cluster.conductor.hand_over = True
    cluster.prefill.last_step.clear()
    return cluster


async def test_decode_has_been_called_before_there_is_a_token(gateway: Gateway, in_its_last_step: FakeCluster) -> None:
    cluster = in_its_last_step
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        text = tasks.create_task(text_of(gateway))
        await cluster.decode.called()
        assert cluster.decode.firsts == []
        cluster.prefill.last_step.set()
        assert await text == alphabet(30)
    assert cluster.decode.firsts == [letter(0)]
    assert len(cluster.decode.decodes) == 1
    await cluster.at_rest()


async def test_a_prefill_that_does_not_say_so_is_decoded_after_its_token(
    gateway: Gateway, cluster: FakeCluster
) -> None:
    cluster.conductor.hand_over = True
    cluster.prefill.says_last_step = False
    assert await text_of(gateway) == alphabet(30)
    assert cluster.decode.firsts == [letter(0)]
    await cluster.at_rest()


async def test_decode_is_not_called_for_a_single_token(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.conductor.hand_over = True
    assert await text_of(gateway, max_tokens=1) == alphabet(1)
    assert cluster.decode.decodes == []
    await cluster.at_rest()


async def test_a_first_token_that_is_the_last_lets_decode_go(gateway: Gateway, in_its_last_step: FakeCluster) -> None:
    cluster = in_its_last_step
    cluster.prefill.token = lambda position: 256  # an end token
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        text = tasks.create_task(text_of(gateway))
        await cluster.decode.called()
        cluster.prefill.last_step.set()
        assert await text == ""
        await cluster.at_rest()
    assert cluster.decode.firsts == []


async def test_a_client_that_leaves_meanwhile_frees_both(gateway: Gateway, in_its_last_step: FakeCluster) -> None:
    cluster = in_its_last_step
    async with asyncio.timeout(PATIENCE_S):
        text = asyncio.create_task(text_of(gateway))
        await cluster.decode.called()
        text.cancel()
        await asyncio.wait([text])
        await cluster.at_rest()
        await cluster.conductor.heard(Outcome.CANCELLED)
    assert cluster.decode.firsts == []


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE])
async def test_a_decode_worker_that_refuses_meanwhile_is_passed_over(
    gateway: Gateway, in_its_last_step: FakeCluster, code: grpc.StatusCode
) -> None:
    cluster = in_its_last_step
    cluster.conductor.workers = [cluster.prefill, cluster.decode, cluster.other]
    cluster.decode.faults = [Fault(code=code)]
    cluster.prefill.token = lambda position: letter(len(cluster.prefill.prefills) - 1)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        text = tasks.create_task(text_of(gateway))
        await cluster.decode.called()
        cluster.prefill.last_step.set()
        assert await text == alphabet(30)
    assert cluster.other.firsts
    await cluster.at_rest()


async def test_a_prefill_worker_that_dies_in_its_last_step_takes_its_decode_with_it(
    gateway: Gateway, in_its_last_step: FakeCluster
) -> None:
    cluster = in_its_last_step
    cluster.conductor.workers = [cluster.prefill, cluster.decode, cluster.other]
    cluster.prefill.faults = [Fault(late=True)]
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        text = tasks.create_task(text_of(gateway))
        await cluster.decode.called()
        cluster.prefill.last_step.set()
        assert await text == alphabet(30)
        await cluster.at_rest()
    assert len(cluster.conductor.asks) == 2
