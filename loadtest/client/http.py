"""The live target: one POST per request over as many connections as it takes, its answer told byte by byte."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp

from loadtest.client.answer import Answer
from loadtest.client.bodies import Bodies
from loadtest.driver import Now
from loadtest.request import Request
from loadtest.settings import ENDPOINTS, Endpoint

KEEP_ALIVE_S = 2.0
"""Idle connections are closed before servers do that (uvicorn's 5 s): a request sent into a closing one is lost."""

READ_BYTES = 1 << 16


class HttpTarget:
    """See ``loadtest.driver.Target``."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: Endpoint, bodies: Bodies) -> None:
        self._session, self._bodies = session, bodies
        self._url = endpoint.url.rstrip("/") + ENDPOINTS[endpoint.endpoint]
        self._said: dict[int, Sequence[int]] = {}

    def prepare(self, request: Request) -> bytes:
        return self._bodies.body(request, self._said)

    def heard(self, request: Request, answer: Answer) -> None:
        if answer.token_ids:
            self._said[request.output.content] = answer.token_ids

    async def ask(self, body: bytes, answer: Answer, now: Now) -> None:
        answer.sent(now=now())
        try:
            async with self._session.post(self._url, data=body) as response:
                answer.head(response.status, response.headers)
                async for data in response.content.iter_any():
                    answer.feed(data, now=now())
                    if answer.enough:
                        return  # leaving the block closes the connection, which is how a server learns of it
                answer.ended(now=now())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            answer.broke(*cause(error), now=now())


def cause(error: Exception) -> tuple[str, str]:
    """A word that groups it, and a sentence."""
    detail = str(error) or type(error).__name__
    match error:
        case TimeoutError():  # aiohttp's own are of this kind too
            return "time-out", detail
        case aiohttp.ClientConnectorError():
            return "no connection", _unreached(error)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | OSError():
            return "connection reset", detail
        case _:
            return type(error).__name__, detail


def _unreached(error: aiohttp.ClientConnectorError) -> str:
    """As the system words it: asyncio's "Connect call failed" doesn't say why."""
    said = error.strerror or str(error)
    return os.strerror(error.errno) if error.errno and said.startswith("Connect call failed") else said


@asynccontextmanager
async def session(
    endpoint: Endpoint, connector: aiohttp.BaseConnector | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """Connections without a bound: whoever waits for one would not be open-loop."""
    headers = {"content-type": "application/json", **dict(endpoint.headers)}
    if endpoint.key:
        headers["authorization"] = f"Bearer {endpoint.key}"
    for name, value in (("x-slo-ttft-ms", endpoint.slo_ttft_ms), ("x-slo-tpot-ms", endpoint.slo_tpot_ms)):
        if value is not None:
            headers[name] = f"{value:g}"
    if connector is None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=300)
    async with aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=endpoint.timeout_s),
        read_bufsize=READ_BYTES,
        auto_decompress=False,
    ) as found:
        yield found
