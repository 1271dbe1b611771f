"""Nothing that Moonpool's processes and its load test ask each other for goes through a proxy of the environment.

grpcio 1.85.1 takes http_proxy even for plain calls to 127.0.0.1; what other clients do differs by library.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from loadtest.client.http import session
from loadtest.client.proxies import unused_proxy as unused_in_load_tests
from loadtest.client.server import ServerError, look
from loadtest.settings import Endpoint
from services.registry.redis_registry import RedisRegistry
from services.runtime.http import get, unused_proxy
from services.status.main import main as status
from services.wire.channel import open_channel, serve
from services.wire.errors import PeerUnavailable
from tests.field.proxies import Recorder, recorder
from tests.services.gateway.test_main import free_port
from tests.services.serving import serving
from tests.services.wire.test_channel import always, call


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Recorder]:
    async with recorder(monkeypatch) as made:
        yield made


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_call_between_processes_reaches_its_peer_and_no_proxy(proxy: Recorder, host: str) -> None:
    target = f"{host}:{free_port()}"
    server = await serve(target, always(grpc.StatusCode.UNAVAILABLE, "as asked"))
    try:
        with pytest.raises(PeerUnavailable, match="as asked"):
            await call(target)
    finally:
        await server.stop(None)
    assert proxy.asked == []


async def test_a_peer_of_another_name_is_looked_for_itself_and_not_by_a_proxy(proxy: Recorder) -> None:
    async with open_channel("worker-3.invalid:50051") as channel:
        method: Any = channel.unary_unary("/test.Test/Call")  # Any: of bytes, as no codec is given
        with pytest.raises(grpc.aio.AioRpcError):
            await method(b"", timeout=5.0)
    assert proxy.asked == []


async def test_a_registry_is_asked_without_a_proxy(proxy: Recorder) -> None:
    heard = asyncio.Event()

    async def redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1):
            heard.set()

    async with serving(redis) as address:
        running = asyncio.create_task(RedisRegistry(f"redis://{address}/0", "default").run())
        async with asyncio.timeout(5):
            await heard.wait()
        running.cancel()
        await asyncio.wait([running])
    assert proxy.asked == []


async def test_probes_and_commands_ask_without_a_proxy_and_say_so(
    proxy: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(get, url, timeout_s=5.0)
    assert await asyncio.to_thread(status, ["--url", url]) == 1
    assert f"moonpool status: http_proxy names a proxy, which is not used: {url} is asked directly\n" in (
        capsys.readouterr().err
    )
    assert proxy.asked == []


async def test_a_load_test_asks_its_server_without_a_proxy(proxy: Recorder) -> None:
    endpoint = Endpoint(url=f"http://127.0.0.1:{free_port()}")
    async with session(endpoint) as http:
        with pytest.raises(ServerError, match="refused"):
            await look(http, endpoint)
    assert proxy.asked == []


@pytest.mark.parametrize("note", [unused_proxy, unused_in_load_tests], ids=["commands", "load tests"])
@pytest.mark.parametrize(
    ("variables", "url", "named"),
    [
        ({}, "http://gateway:8000", None),
        ({"http_proxy": "http://me:secret@proxy:3128"}, "http://gateway:8000", "http_proxy"),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://gateway:8000", "http_proxy"),
        ({"https_proxy": "http://proxy:3128"}, "http://gateway:8000", None),
        ({"https_proxy": "http://proxy:3128"}, "https://gateway", "https_proxy"),
        ({"all_proxy": "socks5://proxy:1080"}, "http://gateway:8000", "all_proxy"),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "localhost,gateway"}, "http://gateway:8000", None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "*"}, "http://127.0.0.1:8000", None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": ".example.com"}, "http://a.example.com:8000", None),
    ],
)
def test_a_proxy_is_told_where_it_would_stand_between(
    monkeypatch: pytest.MonkeyPatch, note: object, variables: dict[str, str], url: str, named: str | None
) -> None:
    """As urllib of Python 3.11 reads the variables, which is as curl does."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert callable(note)
    said = note(url)
    assert said == (named and f"{named} names a proxy, which is not used: {url} is asked directly")
