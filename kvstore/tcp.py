"""Transfers over TCP: one connection for each peer and direction, opened by whoever asks, a thread at each end of it.

``tcp_wire`` is the socket, ``tcp_lane`` a connection and its thread, ``tcp_sides`` how it begins, ``tcp_calls`` what
happens in a call, ``tcp_pace`` how fast bytes come. Connections are opened when first used and end after some minutes
without calls.
"""

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock, Thread
from typing import TypeVar

from kvstore.frames import Lane
from kvstore.names import BlockName
from kvstore.tcp_calls import Incoming, Outgoing
from kvstore.tcp_lane import Connection, Side, Traffic
from kvstore.tcp_sides import Accepting, Opening, join_address, split_address
from kvstore.transfer import Came, Host, InflowEvents, OutflowEvents, TransferCounts
from kvstore.vocabulary import Peer

STALL_S = 10.0
"""How long a peer may let us wait in the middle of anything; a process that hangs is no better than a dead one."""

IDLE_S = 300.0
"""A connection without calls ends after this."""

CONNECTIONS = 128
"""That peers may have opened to us; a thread each."""

ACCEPT_AGAIN_S = 0.1

FlowT = TypeVar("FlowT", Incoming, Outgoing)


@dataclass(frozen=True, slots=True)
class TlsContexts:
    """One for connections that we open, one for those we accept."""

    client: ssl.SSLContext
    server: ssl.SSLContext


class TcpTransfer:
    """A ``Transfer``. arena: bytes. listen: HOST:PORT, port 0: any. OSError where it can't listen there."""

    def __init__(
        self,
        arena: memoryview,
        host: Host,
        listen: str,
        *,
        tls: TlsContexts | None = None,
        stall_s: float = STALL_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._arena, self._host, self._tls = arena, host, tls
        self._stall_s, self._idle_s = stall_s, idle_s
        self._traffic = Traffic()
        self._lock = Lock()
        self._closing = False
        self._opened: dict[tuple[Peer, Lane], Connection] = {}
        self._accepted: dict[Connection, tuple[str, Lane] | None] = {}  # None: it has not said hello yet
        name, port = split_address(listen)
        family = socket.AF_INET6 if ":" in name else socket.AF_INET
        self._listener = socket.create_server((name, port), family=family, backlog=CONNECTIONS)
        self._address = join_address(name, self._listener.getsockname()[1])
        self._thread = Thread(target=self._accept, name=f"transfers at {self._address}", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return self._address

    @property
    def counts(self) -> TransferCounts:
        return TransferCounts(self._traffic.sent, self._traffic.received, len(self._opened) + len(self._accepted))

    def came(self) -> tuple[Came, ...]:
        return self._traffic.meter.take()

    def push(
        self, peer: Peer, names: Sequence[BlockName], *, last_is_short: bool, deadline_s: float, events: OutflowEvents
    ) -> Outgoing:
        deadline = time.monotonic() + deadline_s

        def begin(connection: Connection, number: int) -> Outgoing:
            call = Outgoing(connection, len(names), number=number, deadline=deadline)
            call.events = events
            call.offer(names, last_is_short=last_is_short)
            return call

        return self._begin(peer, Lane.PUSH, begin)

    def fetch(
        self, peer: Peer, names: Sequence[BlockName], slots: Sequence[int], *, deadline_s: float, events: InflowEvents
    ) -> Incoming:
        deadline = time.monotonic() + deadline_s

        def begin(connection: Connection, number: int) -> Incoming:
            call = Incoming(connection, len(names), number=number, deadline=deadline)
            call.events = events
            call.want(names, slots)
            return call

        return self._begin(peer, Lane.FETCH, begin)

    def close(self) -> None:
        with self._lock:
            self._closing = True
            connections = [*self._opened.values(), *self._accepted]
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        for connection in connections:
            connection.close()
        for thread in (self._thread, *[connection.thread for connection in connections]):
            thread.join()
        self._listener.close()

    def _begin(self, peer: Peer, lane: Lane, begin: Callable[[Connection, int], FlowT]) -> FlowT:
        """On the connection there is, or on one that is about to be opened."""
        while True:
            with self._lock:
                assert not self._closing, "nothing begins once transfers are closed"
                known = self._opened.get((peer, lane))
                connection = self._open(peer, lane) if known is None or known.is_ending else known
                call = connection.begin(begin)
                if connection is not known:
                    self._opened[peer, lane] = connection
                    connection.thread.start()  # only now, as it may end at once
            if call is not None:
                return call

    def _open(self, peer: Peer, lane: Lane) -> Connection:
        tls = self._tls.client if self._tls is not None else None
        side = Opening(self._host, peer, lane, tls, self._stall_s)
        return self._connection(f"{lane.name.lower()} {peer.store}", side, self._idle_s)

    def _connection(self, name: str, side: Side, idle_s: float | None) -> Connection:
        return Connection(
            name, side, self._arena, self._traffic, stall_s=self._stall_s, idle_s=idle_s, on_end=self._ended
        )

    def _ended(self, connection: Connection) -> None:
        with self._lock:
            self._accepted.pop(connection, None)
            for key, known in list(self._opened.items()):
                if known is connection:
                    del self._opened[key]

    def _accept(self) -> None:
        while not self._closing:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                if not self._closing:
                    time.sleep(ACCEPT_AGAIN_S)  # too many open files: it may pass
                continue
            with self._lock:
                if self._closing or len(self._accepted) >= CONNECTIONS:
                    accepted.close()
                    continue
                tls = self._tls.server if self._tls is not None else None
                side = Accepting(self._host, accepted, tls, self._introduce, self._stall_s)
                connection = self._connection("transfers of a peer", side, None)
                self._accepted[connection] = None
                connection.thread.start()

    def _introduce(self, connection: Connection, store: str, lane: Lane) -> None:
        """A store has one connection each way: where it opens another the older one is broken, and its calls end."""
        with self._lock:
            older = [known for known, its in self._accepted.items() if its == (store, lane)]
            self._accepted[connection] = (store, lane)
        for each in older:
            each.close()
            each.thread.join()
