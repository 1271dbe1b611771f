"""Takes connections, as many as there is room for, and never spins or floods the log where there is none.

asyncio's own accepting has no bound, and where descriptors are used up it logs a traceback for each of its 2,048
attempts, every second (Python 3.11 to 3.13). Here a connection too many first takes the place of the one that has
waited longest for a request; where all are being answered, it is told 503. Where descriptors are used up all the
same, accepting pauses.
"""

import asyncio
import errno
import logging
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

from services.gateway.http.connection import Connection, Shared, answer
from services.gateway.http.limits import EVICTABLE_S, no_room
from services.runtime.repeated import Repeated

AT_ONCE = 64
"""Connections that are taken before others get on."""

LOOKED_AT = 8
"""Connections, the longest waiting first, of which one may make room."""

PAUSE_S = 0.2
LOG_S = 1.0
UNREAD = 65536

MOST_LEAVING = 64
"""Connections that were told 503 and not yet closed."""

LEAVING_S = 1.0

USED_UP = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = logging.getLogger(__name__)


class Acceptor:
    """Of one listening socket, from ``start`` to ``close``. uvicorn treats it as its ``asyncio.Server``."""

    def __init__(
        self, listener: socket.socket, make: Callable[[], Connection], shared: Shared, connections: set[Connection]
    ) -> None:
        self._listener, self._make, self._shared = listener, make, shared
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._leaving: deque[socket.socket] = deque()
        self._pausing: asyncio.TimerHandle | None = None
        self._no_room = Repeated(log, "no connection can be taken", every_s=LOG_S)

    def start(self, backlog: int) -> None:
        self._listener.setblocking(False)
        self._listener.listen(backlog)
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Takes no more; what was taken goes on."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
        if self._pausing is not None:
            self._pausing.cancel()
        while self._leaving:
            self._leaving.popleft().close()

    async def wait_closed(self) -> None:
        """Returns at once: connections are waited for by uvicorn's server."""

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in USED_UP:
                    raise
                self._pause(error)
                return
            self._took(accepted)

    def _took(self, accepted: socket.socket) -> None:
        most = self._shared.limits.connections
        if len(self._connections) + len(self._beginning) >= most and not self._made_room(EVICTABLE_S):
            self._turn_away(accepted, most)
            return
        accepted.setblocking(False)
        task = self._loop.create_task(self._begin(accepted), name="a connection")
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _begin(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make, accepted)
        except OSError:  # it is gone already
            accepted.close()

    def _made_room(self, waited_s: float) -> bool:
        """Whether a connection that has had no request for that long could be closed."""
        for connection, since in islice(self._shared.waiting.items(), LOOKED_AT):
            if self._loop.time() - since < waited_s:
                return False
            if not connection.has_unsent:
                del self._shared.waiting[connection]
                self._connections.discard(connection)
                connection.transport.abort()
                return True
        return False

    def _turn_away(self, accepted: socket.socket, most: int) -> None:
        """Tell it 503. What it has sent is read, as closing with unread bytes would take the answer back."""
        error = no_room(most)
        self._shared.refused(error.status)
        self._no_room.say(reason=error.message)
        with suppress(OSError):
            accepted.setblocking(False)
            accepted.send(answer(error))
            accepted.shutdown(socket.SHUT_WR)
            accepted.recv(UNREAD)
        if len(self._leaving) >= MOST_LEAVING:
            self._leaving.popleft().close()
        self._leaving.append(accepted)
        self._loop.call_later(LEAVING_S, self._left, accepted)

    def _left(self, accepted: socket.socket) -> None:
        with suppress(ValueError):  # it made room for another
            self._leaving.remove(accepted)
        accepted.close()

    def _pause(self, error: OSError) -> None:
        self._no_room.say(reason=error.strerror)
        self._made_room(0.0)
        self._loop.remove_reader(self._listener)
        self._pausing = self._loop.call_later(PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        self._pausing = None
        self._loop.add_reader(self._listener, self._accept)
