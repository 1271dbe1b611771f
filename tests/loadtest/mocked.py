"""The whole harness against the mock server in virtual time: every byte goes through sockets, every time is exact."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from aiohttp import web

from loadtest.live import Listener, Live, live
from loadtest.mock_server import MockServer, Script
from loadtest.offered import offered
from loadtest.request import Request
from loadtest.settings import Endpoint, Offer
from tests.loadtest import virtual

OFFER = Offer(input_len=20, output_len=4)


def measured(
    script: Script,
    requests: Sequence[Request] | None = None,
    *,
    offer: Offer = OFFER,
    server: MockServer | None = None,
    stop_s: float | None = None,
    **endpoint: Any,
) -> Live:
    """requests: None for those of the offer. stop_s: when Ctrl-C would come."""
    mock = server or MockServer(script)

    async def main(folder: Path) -> Live:
        runner = web.AppRunner(mock.app(), access_log=None, handler_cancellation=True)
        await runner.setup()
        socket = str(folder / "mock.sock")
        await web.UnixSite(runner, socket).start()
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        if stop_s is not None:
            loop.call_later(stop_s, stop.set)
        try:
            return await live(
                replace(Endpoint(url="http://mock"), **endpoint),
                offer,
                offered(offer).requests if requests is None else requests,
                listener=Listener(),
                stop=stop,
                clock=loop.time,
                connector=aiohttp.UnixConnector(socket, limit=0),
            )
        finally:
            await runner.cleanup()

    with TemporaryDirectory() as folder:
        return virtual.run(main(Path(folder)))
