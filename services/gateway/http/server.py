"""uvicorn's server, with our own connections and accepting."""

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

import uvicorn

from services.gateway.http.acceptor import Acceptor
from services.gateway.http.connection import Connection, Shared
from services.gateway.http.limits import Limits

if TYPE_CHECKING:
    import asyncio

    from starlette.types import ASGIApp

BACKLOG = 2048
"""Connections that the kernel keeps until they are taken."""


class HttpServer(uvicorn.Server):
    """Serves an app at sockets that are bound. refused: told each status that a connection was closed with."""

    def __init__(self, app: "ASGIApp", limits: Limits, refused: Callable[[int], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                server_header=False,
                ws="none",
                lifespan="off",
                timeout_graceful_shutdown=1,
            )
        )
        self._shared = Shared(limits, refused)

    @property
    def connections(self) -> int:
        """That are open."""
        return len(self.server_state.connections)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections at ``sockets``."""
        acceptors = [self._acceptor(listener) for listener in sockets or ()]
        for acceptor in acceptors:
            acceptor.start(BACKLOG)
        self.servers = cast("list[asyncio.base_events.Server]", acceptors)
        self.started = True

    def _acceptor(self, listener: socket.socket) -> Acceptor:
        def make() -> Connection:
            return Connection(self.config, self.server_state, self.lifespan.state, self._shared)

        connections = cast("set[Connection]", self.server_state.connections)
        return Acceptor(listener, make, self._shared, connections)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process, not to its server."""
        yield
