"""Serve one process's metrics, and whether it lives, over HTTP for as long as a block runs.

``GET /metrics`` for Prometheus, ``GET /health`` for whoever restarts containers: 503 once the process has given no
sign of life for a while (``heartbeat``). In threads of its own, so that a process whose event loop is stuck still
says so; scraping reads snapshots and never waits for work. Beyond this machine it is as closed as all else between
processes: TLS, both sides checked, or a network that was said to be safe.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Thread

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
"""For a client to say what it wants, its TLS handshake included."""

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

    def __init__(self, host: str, port: int, registry: CollectorRegistry, pulse: Pulse) -> None:
        self.registry, self.pulse = registry, pulse
        super().__init__((host, port), _Handler)

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
