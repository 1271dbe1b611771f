"""How a connection between two stores begins: one connects and says hello, the other accepts and answers.

Both learn who the other is, and that they may share blocks, before anything else is said.
"""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from kvstore.frames import Declined, Hello, Lane, Offer, Want, Welcome
from kvstore.framing import BadFrame, encode
from kvstore.tcp_calls import Incoming, Outgoing
from kvstore.tcp_lane import Call, Connection, decline, read
from kvstore.tcp_wire import Wire, WireFailure, connect, dress
from kvstore.transfer import Greeting, Host, Reason, TransferRefused
from kvstore.vocabulary import Peer

OPEN_S = 2.0
"""For a connection and its TLS handshake."""

HELLO_S = 4.0
"""For the answer to a hello: a store that adopts its first deployment with it may search its SSD file first."""


@dataclass(frozen=True, slots=True)
class Opening:
    """The side that we open, to have calls of ours answered."""

    host: Host
    peer: Peer
    lane: Lane
    tls: ssl.SSLContext | None
    stall_s: float

    def open(self, connection: Connection) -> Wire:
        try:
            ours = self.host.greeting()
            name, port = split_address(self.peer.address)
        except TransferRefused as error:
            raise WireFailure(Reason.REFUSED, str(error)) from error
        except ValueError as error:
            raise WireFailure(Reason.AWAY, str(error)) from error
        wire = connection.adopt(connect(name, port, self.tls, timeout_s=OPEN_S, stall_s=min(HELLO_S, self.stall_s)))
        connection.layout, connection.peer = ours.layout, self.peer.store
        wire.send([encode(Hello(self.lane, ours.store, ours.incarnation, ours.identity, ours.layout))])
        match read(wire):
            case Welcome(self.peer.store, _):
                wire.be_patient(self.stall_s)
                return wire
            case Welcome(other, _):
                raise WireFailure(Reason.REFUSED, f"{self.peer.address} is {other}, not {self.peer.store}")
            case Declined(reason):
                raise WireFailure(Reason.REFUSED, f"{self.peer.store} refuses: {reason}")
            case frame:
                raise BadFrame(f"{type(frame).__name__} is no answer to a hello")

    def called(self, connection: Connection, frame: Offer | Want) -> Call:
        raise BadFrame("a call from the side that was called")


class Accepting:
    """The side that a peer has opened. introduce: told who it is, once that is known."""

    def __init__(
        self,
        host: Host,
        accepted: socket.socket,
        tls: ssl.SSLContext | None,
        introduce: Callable[[Connection, str, Lane], None],
        stall_s: float,
    ) -> None:
        self._host, self._accepted, self._tls = host, accepted, tls
        self._introduce, self._stall_s = introduce, stall_s
        self._peer = ""
        self._lane = Lane.PUSH

    def open(self, connection: Connection) -> Wire:
        wire = connection.adopt(self._dressed())
        hello = _read_hello(wire)
        self._peer, self._lane = hello.store, hello.lane
        try:
            ours = self._host.greeted(Greeting(hello.store, hello.incarnation, hello.identity, hello.layout))
        except TransferRefused as error:
            decline(wire, str(error))
            raise WireFailure(Reason.REFUSED, f"{hello.store} was refused: {error}") from error
        connection.layout, connection.peer = ours.layout, hello.store
        self._introduce(connection, hello.store, hello.lane)
        wire.send([encode(Welcome(ours.store, ours.incarnation))])
        return wire

    def _dressed(self) -> Wire:
        address = _address(self._accepted)
        try:
            return dress(self._accepted, self._tls, timeout_s=OPEN_S, stall_s=self._stall_s)
        except WireFailure as failure:
            if failure.failure.reason is Reason.REFUSED:
                self._host.turned_away(address, str(failure))
            raise

    def called(self, connection: Connection, frame: Offer | Want) -> Call:
        match frame:
            case Offer(number, names, last_is_short) if self._lane is Lane.PUSH:
                incoming = Incoming(connection, len(names), number=number, deadline=None)
                incoming.events = self._host.offered(self._peer, names, last_is_short=last_is_short, flow=incoming)
                return incoming
            case Want(number, names, deadline_s) if self._lane is Lane.FETCH:
                outgoing = Outgoing(connection, len(names), number=number, deadline=None)
                outgoing.events = self._host.wanted(self._peer, names, deadline_s=deadline_s, flow=outgoing)
                return outgoing
        raise BadFrame(f"{type(frame).__name__} has no place on a {self._lane.name} lane")


def _address(connected: socket.socket) -> str:
    """Of the peer's host: its port is another one with each connection."""
    try:
        return str(connected.getpeername()[0])
    except OSError:  # it has left already
        return "a host that has left"


def _read_hello(wire: Wire) -> Hello:
    """The first frame; whoever says something else that can be read is told what is wrong with it."""
    try:
        frame = read(wire)
        if not isinstance(frame, Hello):
            raise BadFrame("a connection begins with Hello")
        return frame
    except BadFrame as error:
        decline(wire, str(error))
        raise


def split_address(address: str) -> tuple[str, int]:
    """``host:port`` or ``[::1]:port``. Raises ValueError."""
    name, _, port = address.rpartition(":")
    if not name or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address!r} is no address of the form HOST:PORT")
    return name.removeprefix("[").removesuffix("]"), int(port)


def join_address(name: str, port: int) -> str:
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
