"""A client that leaves ends everything that was done for it, everywhere; so does a gateway that must stop."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from scheduler.vocabulary import Outcome
from services.gateway.text import Text
from tests.services.gateway.conftest import Gateway, running
from tests.services.gateway.fakes.cluster import FakeCluster
from tests.services.gateway.fakes.worker import FakeWorker, Fault

ASK: dict[str, Any] = {"prompt": "once upon a time", "max_tokens": 30}


def silent(cluster: FakeCluster, where: str) -> FakeWorker:
    """The worker that goes silent there; the test's client leaves while it does."""
    cluster.conductor.hand_over = where != "inline"
    worker = cluster.prefill if where == "in prefill" else cluster.decode
    worker.faults = [Fault(after=0 if where in ("in prefill", "before decode's first token") else 3, hold=True)]
    return worker


async def everything_is_freed(gateway: Gateway, cluster: FakeCluster) -> None:
    await cluster.at_rest()
    async with asyncio.timeout(5):
        await cluster.conductor.heard(Outcome.CANCELLED)
        await gateway.front.idle()
    assert gateway.front.told == 0
    assert Outcome.FINISHED not in {outcome for _, outcome in cluster.conductor.outcomes}


@pytest.mark.parametrize("where", ["in prefill", "before decode's first token", "in the middle", "inline"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("n", [1, 2])
async def test_a_client_that_leaves_cancels_every_call(
    gateway: Gateway, cluster: FakeCluster, where: str, stream: bool, n: int
) -> None:
    worker = silent(cluster, where)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20, trust_env=False, verify=False) as client:
        asking = asyncio.create_task(client.post("/v1/completions", json=ASK | {"stream": stream, "n": n}))
        async with asyncio.timeout(5):
            await worker.called()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    await everything_is_freed(gateway, cluster)


@pytest.mark.parametrize(
    "behind", [b"", b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"]
)
async def test_a_client_that_leaves_with_requests_behind_the_running_one_cancels_it(
    gateway: Gateway, cluster: FakeCluster, behind: bytes
) -> None:
    """Pipelined: the connection's last request is not the one that is being answered."""
    worker = silent(cluster, "in the middle")
    url = httpx.URL(gateway.url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    body = json.dumps(ASK | {"stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    writer.write(2 * (head + body) + behind)
    async with asyncio.timeout(5):
        await worker.called()
    writer.close()
    await everything_is_freed(gateway, cluster)
    assert len(worker.decodes) == 1


async def test_a_client_that_leaves_while_its_placement_is_awaited_is_noticed(
    gateway: Gateway, cluster: FakeCluster
) -> None:
    cluster.conductor.silent = True
    await gateway.front.refresh()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20, trust_env=False, verify=False) as client:
        asking = asyncio.create_task(client.post("/v1/completions", json=ASK))
        async with asyncio.timeout(5):
            await cluster.conductor.asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(0.5):  # not the second after which the conductor would be given up
            await gateway.front.idle()


async def test_a_connection_can_be_used_again_after_a_stream(gateway: Gateway) -> None:
    async with httpx.AsyncClient(
        base_url=gateway.url, trust_env=False, verify=False, limits=httpx.Limits(max_connections=1)
    ) as client:
        for _ in range(3):
            async with client.stream("POST", "/v1/completions", json=ASK | {"stream": True}) as answer:
                assert (await answer.aread()).endswith(b"data: [DONE]\n\n")
        assert (await client.get("/live")).status_code == 200


async def test_a_gateway_that_stops_lets_its_streams_end(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.decode.gate.clear()
    asking = asyncio.create_task(gateway.http.post("/v1/completions", json=ASK))
    await cluster.decode.called()
    draining = asyncio.create_task(gateway.front.drain(5.0))
    for path in ("/health", "/ready"):
        refused = await gateway.http.get(path)
        assert refused.status_code == 503
        assert "shutting down" in refused.json()["error"]["message"]
    assert (await gateway.http.get("/live")).status_code == 200
    assert (await gateway.http.post("/v1/completions", json=ASK)).status_code == 503
    cluster.decode.gate.set()
    assert (await asking).json()["usage"]["completion_tokens"] == 30
    await draining


@pytest.mark.parametrize("n", [1, 2])
async def test_a_gateway_that_must_stop_ends_its_streams_with_an_error(
    cluster: FakeCluster, text: Text, n: int
) -> None:
    cluster.decode.faults = [Fault(after=3, hold=True)]
    async with running(cluster, text) as gateway:
        async with gateway.http.stream("POST", "/v1/completions", json=ASK | {"stream": True, "n": n}) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            await gateway.front.drain(0.0)
            rest = [line async for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        error = json.loads(rest[-2].removeprefix("data: "))["error"]
        assert error["code"] == "shutting_down"
        await cluster.at_rest()


async def test_a_gateway_that_must_stop_tells_whole_answers_503(gateway: Gateway, cluster: FakeCluster) -> None:
    cluster.decode.faults = [Fault(after=3, hold=True)]
    asking = asyncio.create_task(gateway.http.post("/v1/completions", json=ASK))
    await cluster.decode.called()
    await gateway.front.drain(0.0)
    answer = await asking
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    await cluster.at_rest()


async def test_a_client_that_does_not_read_does_not_keep_a_gateway_from_stopping(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.front.LAST_WORDS_S", 0.01)
    with gateway.front.present():
        async with asyncio.timeout(5):
            await gateway.front.drain(0.0)
