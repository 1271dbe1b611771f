"""A conductor, a store, a worker and a gateway that are told of a Redis and of nothing else."""

import asyncio
from pathlib import Path

import pytest

from services.gateway.cluster import ClusterClient
from services.gateway.settings import GatewaySettings
from services.registry.directory import directory
from services.runtime.flags import load
from tests.services.registry.server import redis_server
from tests.services.rig import rig


async def test_processes_that_know_a_redis_find_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_server() as server:
        monkeypatch.setenv("MOONPOOL_REDIS_URL", server.url)
        async with rig(tmp_path) as it:
            worker = await it.worker("early")  # nobody is there yet, and it serves all the same
            await it.conductor()
            store = await it.store("store-a")
            async with directory(load(GatewaySettings, [], prog="moonpool gateway")) as others:
                client = ClusterClient(others.conductors)
                following = asyncio.create_task(client.follow(others), name="follow")
                while not others.conductors:
                    await others.change.wait()
                assert others.conductors == (it.target("conductor-0"),)
                await it.until("the worker has a session", lambda: len(store.node.sessions) == 1)
                await reported(client, "early", "store-a")

                server.kill()  # from here on everybody does without
                assert worker.worker.link is not None
                assert worker.worker.link.connected.is_set()
                await reported(client, "early", "store-a")
                following.cancel()
                await client.close()


async def reported(client: ClusterClient, worker: str, store: str) -> None:
    """Returns once the conductor that the gateway found knows them both."""
    async with asyncio.timeout(10):
        while True:
            cluster = await client.describe()
            if [(each.worker, each.store) for each in cluster.workers] == [(worker, store)] and cluster.stores:
                return
            await asyncio.sleep(0.02)


def test_a_gateway_without_conductors_or_registry_is_told_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(GatewaySettings, [], prog="moonpool gateway")
    said = capsys.readouterr().err
    assert "moonpool gateway: --conductor (or MOONPOOL_CONDUCTOR) is required, or --redis-url" in said
