"""A peer that speaks frames by hand, so that it can say what no correct store says, and die at any byte."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from kvstore.frames import Frame, Hello, Lane, Welcome
from kvstore.framing import HEADER_BYTES, decode_body, decode_header, encode
from kvstore.tcp_sides import split_address
from tests.kvstore.builders import IDENTITY, LAYOUT
from tests.kvstore.stores import PATIENCE_S


class Stranger:
    """One end of a plain connection. ``hear`` raises EOFError where the other side has closed it."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        connected.settimeout(PATIENCE_S)

    def say(self, *frames: Frame | bytes) -> None:
        self.socket.sendall(b"".join(each if isinstance(each, bytes) else encode(each) for each in frames))

    def hear(self) -> Frame:
        header = decode_header(self.read(HEADER_BYTES))
        return decode_body(header, self.read(header.body_bytes))

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                raise EOFError
            data += more
        return data

    def is_left(self) -> bool:
        """Whether the other side closes the connection, whatever it says before."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True

    def greet(self, lane: Lane, store: str = "stranger") -> None:
        self.say(Hello(lane, store, 1, IDENTITY, LAYOUT))
        assert isinstance(self.hear(), Welcome)

    def answer(self, store: str = "stranger") -> Hello:
        hello = self.hear()
        assert isinstance(hello, Hello)
        self.say(Welcome(store, 1))
        return hello


@contextmanager
def calling(address: str, lane: Lane | None = Lane.PUSH, store: str = "stranger") -> Iterator[Stranger]:
    """A stranger that has connected, and said hello unless ``lane`` is None."""
    with socket.create_connection(split_address(address), PATIENCE_S) as connected:
        stranger = Stranger(connected)
        if lane is not None:
            stranger.greet(lane, store)
        yield stranger


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        yield listener


@contextmanager
def accepted(listener: socket.socket) -> Iterator[Stranger]:
    connected, _ = listener.accept()
    with connected:
        yield Stranger(connected)
