"""A proxy of the environment that keeps what it is asked for, and answers nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.services.serving import serving

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Recorder:
    """asked: the first bytes of each connection."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.read(200))
        writer.close()


@asynccontextmanager
async def recorder(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Recorder]:
    """Every variable by which programs know a proxy names this one, and nothing is excluded from it."""
    made = Recorder()
    async with serving(made.connected) as address:
        for name in VARIABLES:
            monkeypatch.setenv(name, f"http://{address}")
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy", "NO_GRPC_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield made
