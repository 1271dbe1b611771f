"""A server of ours that stays where it can be called, though its Unix socket be removed, or replaced by a dead one.

Cleaners of temporary directories remove sockets that are in use. What is connected stays connected, but nothing
new can connect. gRPC adds no address to a server that runs, so another one with the same services takes the address;
the one before goes on for those that it has.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

import grpc

from services.runtime.logs import fields
from services.wire.errors import CannotListen
from services.wire.socket_file import SocketFile

LOOK_S = 1.0
"""Between looks for the socket; nothing tells of its removal but the file system, a microsecond each time."""

MOST = 4
"""Servers at a time; then all are stopped, and their connections with them, before there is another. All, since a
server that stops removes the file of its address, which is the newest one's by then."""

log = logging.getLogger(__name__)

Bind = Callable[[grpc.aio.Server], object]
"""Gives it its address. Raises RuntimeError where that can't be had."""


class Served:
    """Made by ``channel.serve``. ``stop`` ends it."""

    def __init__(self, target: str, make: Callable[[], grpc.aio.Server], bind: Bind, *, look_s: float = LOOK_S) -> None:
        self._target = target
        self._make = make
        self._bind = bind
        self._look_s = look_s
        self._servers: list[grpc.aio.Server] = []
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises CannotListen."""
        await self._add()
        if self._target.startswith("unix:"):
            path = Path(self._target.removeprefix("unix:"))
            self._watching = asyncio.create_task(self._watch(path, SocketFile(path)), name=f"socket {path.name}")

    async def stop(self, grace_s: float | None) -> None:
        """Nothing new is taken, and what runs has ended after so many seconds; idempotent."""
        if self._watching is not None:
            self._watching.cancel()
        await asyncio.gather(*(server.stop(grace_s) for server in self._servers))

    async def _add(self) -> None:
        server = self._make()
        try:
            self._bind(server)
        except RuntimeError as error:
            await server.stop(None)
            sentence = f"can't listen at {self._target}: the address is taken, or its directory can't be written"
            raise CannotListen(sentence) from error
        await server.start()
        self._servers.append(server)

    async def _stop_all(self) -> None:
        servers, self._servers = self._servers, []
        await asyncio.gather(*(server.stop(None) for server in servers))

    async def _watch(self, path: Path, file: SocketFile) -> None:
        said = False
        while True:
            await asyncio.sleep(self._look_s)
            if not file.is_lost():
                continue
            try:
                await self._make_again(path)
            except CannotListen as error:
                if not said:
                    log.error("the socket was removed: nothing new can connect", extra=fields(reason=str(error)))
                said = True
                continue
            file, said = SocketFile(path), False
            log.warning("the socket was removed; it is made again", extra=fields(listen=self._target))

    async def _make_again(self, path: Path) -> None:
        if not os.access(path.parent, os.W_OK | os.X_OK):
            # Not even tried: gRPC writes a line of its own for each attempt.
            raise CannotListen(f"can't listen at {self._target}: there is no such directory, or it can't be written")
        if len(self._servers) >= MOST:
            await self._stop_all()
        await self._add()
