"""Serve one process's metrics, and whether it lives, over HTTP for as long as a block runs.

``GET /metrics`` for Prometheus, ``GET /health`` for whoever restarts containers: 503 once the process has given no
sign of life for a while (``heartbeat``). In threads of its own, so that a process whose event loop is stuck still
says so; scraping reads snapshots and never waits for work. Beyond this machine it is as closed as all else between
processes: TLS, both sides checked, or a network that was said to be safe.
"""

import errno
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader, RawIOBase
from socketserver import TCPServer
from threading import BoundedSemaphore, Thread
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from services.runtime.heartbeat import Pulse
from services.runtime.logs import fields
from services.runtime.process import Refusal
from services.runtime.settings import CalledSettings
from services.wire.tls import Tls, refuse_exposed

SILENT_S = 10.0
"""As long as ``moonpool up`` waits before it takes a child for hung (--hang-s)."""

REQUEST_S = 10.0
"""For a client to say what it wants, its TLS handshake included; however slowly it goes on saying it."""

MOST_AT_ONCE = 32
"""Clients that are answered at the same time, a thread each; Prometheus and a probe are two."""

PAUSE_S = 0.2
"""Where descriptors are used up, until the next is tried for."""

LOG_S = 1.0

PLAIN = "text/plain; charset=utf-8"

log = logging.getLogger(__name__)


@contextmanager
def metrics_port(
    settings: CalledSettings, registry: CollectorRegistry, *, pulse: Pulse, tls: Tls | None
) -> Iterator[int | None]:
    """The port that serves; None where there is to be none. Raises Refusal if it can't be had, or would be exposed."""
    host, port = settings.metrics_host, settings.metrics_port
    if port is None:
        yield None
        return
    refuse_exposed(f"{host}:{port}", tls, insecure_network=settings.insecure_network)
    try:
        server = _Server(host, port, registry, pulse)
    except OSError as error:
        raise Refusal(f"--metrics-port {port} can't be had at {host}: {error.strerror}") from error
    if tls is not None:  # the handshake is the handler's thread's: a client that says nothing holds up nobody else
        server.socket = tls.ssl_server().wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        log.info("metrics", extra=fields(host=host, port=server.server_port))
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    block_on_close = False
    request_queue_size = 128

    def __init__(self, host: str, port: int, registry: CollectorRegistry, pulse: Pulse) -> None:
        self.registry, self.pulse = registry, pulse
        self._seats = BoundedSemaphore(MOST_AT_ONCE)
        self._log_at = -LOG_S
        super().__init__((host, port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:  # Any: an address
        """Where descriptors are used up, the selector would say at once that there is a connection to be had."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                now = time.monotonic()
                if now - self._log_at >= LOG_S:
                    log.warning("no connection can be taken", extra=fields(reason=error.strerror))
                    self._log_at = now
                time.sleep(PAUSE_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:  # Any: as socketserver has them
        """In a thread; a client too many is turned away without one."""
        if not self._seats.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # there is no room for a thread
            self._seats.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._seats.release()

    def server_bind(self) -> None:
        """Without HTTPServer's look for the host's full name, which takes seconds where nobody answers."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left, or that TLS turned away, is no news."""
        log.debug("a metrics client failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_S
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = BufferedReader(_InTime(self.connection, time.monotonic() + REQUEST_S))

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/metrics":
                # Never OpenMetrics, though Prometheus likes that better: there the library writes vllm_ for vllm:.
                self._answer(HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self.server.registry))
            case "/health" if (silent_s := self.server.pulse.silent_s) > SILENT_S:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, PLAIN, b"no sign of life for %d s\n" % silent_s)
            case "/health":
                self._answer(HTTPStatus.OK, PLAIN, b"alive\n")
            case _:
                self._answer(HTTPStatus.NOT_FOUND, PLAIN, b"there are /metrics and /health\n")

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not logged."""


class _InTime(RawIOBase):
    """What comes from a socket until a time. Raises TimeoutError then, even where something came a moment before."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self._connection, self._until = connection, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # Any: anything with a buffer, which typeshed can't name here
        left_s = self._until - time.monotonic()
        if left_s <= 0.0:
            raise TimeoutError("its time is up")
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)
