"""A gateway on a free port in the test's own event loop, in front of a cluster that is not there."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from services.gateway.app import build_app
from services.gateway.cluster import ClusterClient
from services.gateway.front import Front, FrontSettings
from services.gateway.http.callers import Callers
from services.gateway.http.limits import Limits
from services.gateway.http.server import HttpServer
from services.gateway.main import _bind
from services.gateway.patience import Patience
from services.gateway.text import Text, toy_text
from tests.services.gateway.fakes.cluster import FakeCluster

LIMITS = Limits()


@dataclass
class Gateway:
    """A running one. url: where; http: a client of it."""

    front: Front
    url: str
    http: httpx.AsyncClient


@pytest.fixture(scope="session")
def text() -> Text:
    return toy_text()


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    with tempfile.TemporaryDirectory(prefix="moonpool-test-") as directory:
        async with AsyncExitStack() as stack:
            made = FakeCluster(Path(directory))
            await made.start(stack)
            yield made


@pytest.fixture
async def gateway(cluster: FakeCluster, text: Text) -> AsyncIterator[Gateway]:
    async with running(cluster, text) as made:
        yield made


@asynccontextmanager
async def running(
    cluster: FakeCluster,
    text: Text,
    *,
    limits: Limits = LIMITS,
    callers: Callers | None = None,
    **settings: object,
) -> AsyncIterator[Gateway]:
    """A gateway that has no patience, unless told otherwise."""
    chosen = {"patience": Patience(waiting_s=0.0, resuming_s=0.0), **settings}
    front = Front(FrontSettings(**chosen), text, ClusterClient([cluster.conductor_target]))  # type: ignore[arg-type]
    with closing(_bind("127.0.0.1", 0)) as bound:
        server = HttpServer(build_app(front, callers), limits, front.metrics.refused)
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup(sockets=[bound])  # without its main loop, which looks only every 0.1 s whether to stop
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=20.0, trust_env=False, verify=False) as http:
                yield Gateway(front, url, http)
        finally:
            for listener in server.servers:  # server.shutdown() would sleep for 0.1 s
                listener.close()
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            await front.close()
