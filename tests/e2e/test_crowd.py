"""A crowd that is refused, and waits as it was told: a whole deployment of toy engines that take their time."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx
import pytest

from tests.e2e.cluster import Cluster, running

TAKES_TIME = {
    "MOONPOOL_TOY_PROFILE": '{"prefill_s": [0.003, 0.001, 0], "step_s": [0.01, 0.0005, 0], "transfer_s": [0, 0]}'
}
CLIENTS, TRIES = 120, 8


@dataclass(slots=True)
class Client:
    """told: when it was told to come, and taken: when it came and was served, in seconds since the beginning."""

    prompt: list[int]
    told: list[float] = field(default_factory=list)
    taken: float | None = None

    async def ask(self, http: httpx.AsyncClient) -> None:
        """As openai clients do: after the milliseconds that they are told."""
        clock = asyncio.get_running_loop().time
        for _ in range(TRIES):
            came = clock()
            answer = await http.post("/v1/completions", json={"prompt": self.prompt, "max_tokens": 5})
            if answer.status_code == 200:
                self.taken = came
                return
            assert answer.status_code == 429, answer.text
            wait_s = int(answer.headers["retry-after-ms"]) / 1000
            assert wait_s <= int(answer.headers["retry-after"]) <= 120
            self.told.append(clock() + wait_s)
            await asyncio.sleep(wait_s)


async def crowd(cluster: Cluster, *, same: bool = False) -> list[Client]:
    """Prompts of 100 to 200 tokens; the same one for all: of 15, less than a block, so that none is cached."""
    chance = Random(1)
    clients = [
        Client([5] * 15 if same else [chance.randrange(256) for _ in range(chance.randrange(100, 200))])
        for _ in range(CLIENTS)
    ]
    limits = httpx.Limits(max_connections=2 * CLIENTS)
    async with httpx.AsyncClient(base_url=cluster.url, timeout=120.0, limits=limits) as http:
        await asyncio.gather(*(client.ask(http) for client in clients))
    return clients


def out_of_order(clients: list[Client]) -> float:
    """The share of pairs that were taken in another order than that in which they were told to come."""
    pairs = [
        (one, other)
        for one in clients
        for other in clients
        if one.told and other.told and one.told[0] < other.told[0] and one.taken and other.taken
    ]
    return sum((one.taken or 0.0) > (other.taken or 0.0) for one, other in pairs) / len(pairs)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["baseline", "early", "predictive"])
async def test_a_crowd_that_waits_as_told_is_taken_at_the_second_try_in_the_order_told(
    tmp_path: Path, mode: str
) -> None:
    flags = ("--prefill", "1", "--decode", "1", "--threads", "1", "--admission", mode, "--slo-ttft-s", "3")
    with running(tmp_path, *flags, settings=TAKES_TIME) as cluster:
        clients = await crowd(cluster)

    refused = [client for client in clients if client.told]
    second = [client for client in refused if len(client.told) == 1 and client.taken is not None]
    assert len(refused) > CLIENTS / 2
    assert len(second) >= 0.8 * len(refused)
    assert all(client.taken is not None for client in clients)
    assert out_of_order(refused) < 0.05
