"""One connected socket, blocking, plain or TLS, and a way to wake the thread that waits for it.

Plain sockets move many pieces with one call (``sendmsg``, ``recvmsg_into``), straight out of and into the arena; TLS
moves them one by one. Every wait is bounded. Only ``wake`` and ``shut`` may be called by other threads.
"""

import contextlib
import fcntl
import os
import select
import socket
import ssl
import struct
import termios
import time
from collections.abc import Sequence
from types import TracebackType

from kvstore.transfer import Failure, Reason

PIECES = 1024
"""IOV_MAX: how many pieces one call may have."""

FRAME_S = 60.0
"""The longest that one frame may take, however steadily it drips."""

KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
"""A host that vanished is noticed after 25 s of silence; one that vanished while we send to it, by the stall."""


INT = struct.Struct("i")


class WireFailure(Exception):
    """The connection is of no more use."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.failure = Failure(reason, sentence)


class Wire:
    """Owns the socket, from its making until ``close``. stall_s: how long nothing may move in a send or receive."""

    def __init__(self, connected: socket.socket, *, stall_s: float) -> None:
        self._socket = connected
        self._tls = connected if isinstance(connected, ssl.SSLSocket) else None
        self._waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(connected.fileno(), select.POLLIN)
        self._poll.register(self._waker, select.POLLIN)
        self.be_patient(stall_s)

    def be_patient(self, stall_s: float) -> None:
        """From now on nothing may move for so long."""
        if self._tls is not None:
            self._socket.settimeout(stall_s)
            return
        # The kernel's own time-outs: with Python's, a socket does not block, every call is preceded by a poll, and
        # sends and receives are cut into what the buffers hold at that moment.
        self._socket.settimeout(None)
        seconds = struct.pack("ll", int(stall_s), int(stall_s % 1 * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)

    def send(self, pieces: Sequence[bytes | memoryview]) -> None:
        """All of it. Raises WireFailure."""
        views = [memoryview(piece) for piece in pieces]
        with AsWireFailure():
            if self._tls is not None:
                for view in views:
                    self._tls.sendall(view)
                return
            until = time.monotonic() + FRAME_S
            while views:
                sent = self._socket.sendmsg(views[:PIECES])
                views = _rest(views, sent)
                _check_time(until)

    def receive(self, views: Sequence[memoryview]) -> None:
        """Fill all of them. Raises WireFailure."""
        until = time.monotonic() + FRAME_S
        with AsWireFailure():
            if self._tls is not None:
                for view in views:
                    _receive_tls(self._tls, view, until)
                return
            left = list(views)
            while left:
                got = self._socket.recvmsg_into(left[:PIECES], 0, socket.MSG_WAITALL)[0]
                if not got:
                    raise WireFailure(Reason.BROKEN, "the peer has closed the connection")
                left = _rest(left, got)
                _check_time(until)

    def wait(self, seconds: float | None) -> bool:
        """Whether something can be read: at once, or when it comes; False when woken, or when time is up."""
        if self._tls is not None and self._tls.pending():
            return True
        ready = dict(self._poll.poll(None if seconds is None else max(0.0, seconds) * 1000))
        if self._waker in ready:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._waker)
        return self._socket.fileno() in ready

    def waiting_bytes(self) -> int:
        """What has come and was not read yet; about, with TLS, as it is encrypted."""
        (count,) = INT.unpack(fcntl.ioctl(self._socket.fileno(), termios.FIONREAD, bytes(INT.size)))
        return int(count) + (0 if self._tls is None else self._tls.pending())

    def wake(self) -> None:
        """Make ``wait`` return; the wire must not be closed yet."""
        os.eventfd_write(self._waker, 1)

    def shut(self) -> None:
        """Let whatever waits for the peer fail at once; the wire must not be closed yet."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # ssl's own would meddle with its state

    def close(self) -> None:
        self._socket.close()
        os.close(self._waker)


def connect(host: str, port: int, tls: ssl.SSLContext | None, *, timeout_s: float, stall_s: float) -> Wire:
    """Raises WireFailure."""
    try:
        plain = socket.create_connection((host, port), timeout_s)
    except TimeoutError as error:
        raise WireFailure(Reason.STALLED, f"{host}:{port} says nothing at all") from error
    except OSError as error:
        sentence = error.strerror or str(error) or "no answer"
        raise WireFailure(Reason.AWAY, f"nobody answers at {host}:{port}: {sentence}") from error
    return dress(plain, tls, timeout_s=timeout_s, stall_s=stall_s, server_hostname=host)


def dress(
    plain: socket.socket,
    tls: ssl.SSLContext | None,
    *,
    timeout_s: float,
    stall_s: float,
    server_hostname: str | None = None,
) -> Wire:
    """A wire of a connected socket, after the TLS handshake where there is to be one. Raises WireFailure."""
    try:
        with AsWireFailure():
            plain.settimeout(timeout_s)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE.items():
                plain.setsockopt(socket.IPPROTO_TCP, option, value)
            if tls is not None:
                plain = tls.wrap_socket(plain, server_side=server_hostname is None, server_hostname=server_hostname)
            return Wire(plain, stall_s=stall_s)
    except BaseException:
        plain.close()
        raise


class AsWireFailure:
    """Around work on a socket: OS and TLS errors as WireFailure.

    A class, as the generator of a ``contextmanager`` would, since Python 3.12, end in a circle of the error and its
    frames, and views of the arena that those frames hold would live until the garbage collector comes by.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        match error:
            case ssl.SSLCertVerificationError():
                reason, sentence = Reason.REFUSED, f"the peer's certificate is not good: {error.verify_message}"
            case BlockingIOError() | TimeoutError():
                reason, sentence = Reason.STALLED, "nothing came or went for too long"
            case ssl.SSLError():
                reason, sentence = Reason.REFUSED, f"TLS: {error.reason or error}"
            case OSError():
                reason, sentence = Reason.BROKEN, f"the connection broke: {error.strerror or error}"
            case _:
                return
        raise WireFailure(reason, sentence) from error


def _receive_tls(connected: ssl.SSLSocket, view: memoryview, until: float) -> None:
    """Fill it; a call gives no more than a record, 16 KiB, so this is the loop that TLS waits for."""
    receive, at, end = connected.recv_into, 0, len(view)
    while at < end:
        got = receive(view[at:])
        if not got:
            raise WireFailure(Reason.BROKEN, "the peer has closed the connection")
        at += got
        _check_time(until)


def _rest(views: list[memoryview], count: int) -> list[memoryview]:
    """What is left after ``count`` bytes."""
    for index, view in enumerate(views):
        if count < len(view):
            return [view[count:], *views[index + 1 :]]
        count -= len(view)
    return []


def _check_time(until: float) -> None:
    if time.monotonic() > until:
        raise WireFailure(Reason.STALLED, f"a frame took longer than {FRAME_S:.0f} s")
