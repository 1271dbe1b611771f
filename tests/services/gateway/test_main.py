"""The process: it serves until told to stop, and says in a sentence why it cannot."""

import asyncio
import socket
from pathlib import Path

import httpx
import pytest

from services.gateway.main import main, serve_http
from services.gateway.settings import GatewaySettings
from services.runtime.process import Refusal
from tests.services.gateway.fakes.cluster import FakeCluster


def settings(port: int, **chosen: object) -> GatewaySettings:
    values = {"port": port, "conductor": ("unix:/nowhere/conductor.sock",), "engine": "toy", **chosen}
    return GatewaySettings(**values)  # type: ignore[arg-type]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def test_it_serves_until_told_to_stop_and_ends_with_what_it_was_telling(cluster: FakeCluster) -> None:
    port, stopping = free_port(), asyncio.Event()
    chosen = settings(port, conductor=(cluster.conductor_target,), served_model_name="mine")
    serving = asyncio.create_task(serve_http(chosen, stopping))
    transport = httpx.AsyncHTTPTransport(retries=5, verify=False)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", transport=transport, timeout=20.0) as http:
        assert (await http.get("/health")).status_code == 200
        cluster.decode.gate.clear()
        asking = asyncio.create_task(http.post("/v1/completions", json={"model": "mine", "prompt": "hello"}))
        await cluster.decode.called()
        stopping.set()
        while (await http.get("/health")).status_code == 200:
            pass
        cluster.decode.gate.set()
        assert (await asking).json()["usage"]["completion_tokens"] == 16
    await serving
    with pytest.raises(OSError, match=r"refused|111"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_port_that_is_taken_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Refusal, match=f"can't listen at 127.0.0.1:{port}: "):
            await serve_http(settings(port), asyncio.Event())


@pytest.mark.parametrize("model", ["/no/such/place", "nonsense"])
async def test_a_model_that_is_not_there_is_a_sentence(model: str) -> None:
    with pytest.raises(Refusal, match=model):
        await serve_http(settings(free_port(), engine="torch", model=model), asyncio.Event())


async def test_a_model_without_a_tokenizer_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(Refusal, match="no tokenizer"):
        await serve_http(settings(free_port(), engine="torch", model=str(tmp_path)), asyncio.Event())


def test_without_a_conductor_it_is_not_started(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "--conductor" in capsys.readouterr().err
