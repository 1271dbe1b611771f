"""Serve one registry's metrics over HTTP for as long as a block runs.

On the loopback interface, in a thread of its own; scraping reads snapshots and never waits for work.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server

from services.runtime.logs import fields
from services.runtime.process import Refusal

log = logging.getLogger(__name__)


@contextmanager
def metrics_port(port: int | None, registry: CollectorRegistry) -> Iterator[int | None]:
    """The port that serves ``/metrics``; None serves nothing, 0 takes any free one. Raises Refusal if it is taken."""
    if port is None:
        yield None
        return
    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise Refusal(f"--metrics-port {port} can't be had: {error.strerror}") from error
    try:
        log.info("metrics", extra=fields(port=server.server_port))
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
