"""``moonpool gateway``: read settings, build the objects, serve HTTP until told to stop, drain."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Sequence
from ipaddress import ip_address

from services.gateway.app import build_app
from services.gateway.cluster import ClusterClient
from services.gateway.front import Front, FrontSettings
from services.gateway.http.callers import Callers
from services.gateway.http.limits import Limits, connections_for
from services.gateway.http.server import HttpServer
from services.gateway.patience import Patience
from services.gateway.settings import GatewaySettings
from services.gateway.text import Text, load_text, toy_text
from services.gateway.tokenizer.files import TextError
from services.models.errors import ModelError
from services.models.resolve import resolve_model
from services.registry.directory import Directory, directory
from services.runtime.descriptors import open_files_limit
from services.runtime.flags import load
from services.runtime.garbage import collect_seldom
from services.runtime.heartbeat import Pulse
from services.runtime.logs import fields
from services.runtime.process import Refusal, run_process
from services.wire.tls import tls_of

log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Exit status as services.runtime.process has it."""
    settings = load(GatewaySettings, argv, prog="moonpool gateway")

    pulse = Pulse()

    async def serve(stopping: asyncio.Event) -> None:
        await serve_http(settings, stopping, pulse=pulse)

    return run_process(settings.id, serve, log_level=settings.log_level, pulse=pulse)


async def serve_http(settings: GatewaySettings, stopping: asyncio.Event, *, pulse: Pulse | None = None) -> None:
    """Until ``stopping`` is set and what then ran has ended. Raises Refusal."""
    tls = tls_of(settings)
    with contextlib.closing(_bind(settings.host, settings.port)) as listener:
        text, name = await asyncio.to_thread(_text, settings)
        async with directory(settings, conductors=settings.conductor) as others:
            cluster = ClusterClient(others.conductors, tls)
            front = Front(_front_settings(settings, name), text, cluster)
            await _serve(settings, front, others, listener, stopping, pulse or Pulse())


async def _serve(
    settings: GatewaySettings,
    front: Front,
    others: Directory,
    listener: socket.socket,
    stopping: asyncio.Event,
    pulse: Pulse,
) -> None:
    callers = Callers(
        local=ip_address(listener.getsockname()[0]).is_loopback,
        hosts=settings.allowed_hosts,
        origins=settings.allowed_origins,
    )
    server = HttpServer(build_app(front, callers), _limits(settings), front.metrics.refused)
    front.metrics.connections.set_function(lambda: server.connections)
    behind = [
        asyncio.create_task(front.keep_fresh(), name="refresh"),
        asyncio.create_task(front.lag.run(), name="lag"),
        asyncio.create_task(front.cluster.follow(others), name="conductors"),
        asyncio.create_task(front.ledger.run(), name="ledger"),
    ]
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        host, port = listener.getsockname()[:2]
        collect_seldom()
        log.info("ready", extra=fields(listen=f"http://{host}:{port}", model=front.settings.model))
        pulse.ready()
        await _first_of(stopping, serving, *behind)
        await front.drain(settings.drain_s)
    finally:
        server.should_exit = True
        for task in behind:
            task.cancel()
        await asyncio.wait((serving, *behind))
        await front.close()
    await serving


async def _first_of(stopping: asyncio.Event, *tasks: "asyncio.Task[None]") -> None:
    """Returns when told to stop; raises what ended one of the tasks, none of which ends by itself."""
    told = asyncio.create_task(stopping.wait(), name="stopping")
    done, _ = await asyncio.wait((told, *tasks), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    for task in done - {told}:
        task.result()


def _bind(host: str, port: int) -> socket.socket:
    """Before anything slow is done, so that a port that is taken is told at once; connections wait for the server."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with contextlib.ExitStack() as unless_bound:
            bound = unless_bound.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a restart waits for old connections
            bound.bind(address)
            unless_bound.pop_all()
    except OSError as error:
        raise Refusal(f"can't listen at {host}:{port}: {error.strerror or error}") from error
    return bound


def _text(settings: GatewaySettings) -> tuple[Text, str]:
    """The model's text side and the name it is served by."""
    if settings.engine == "toy":
        return toy_text(), settings.served_model_name or "toy"
    try:
        files = resolve_model(settings.model, settings.data_dir, text_only=True)
        return load_text(files.directory), settings.served_model_name or files.served_name
    except (ModelError, TextError) as error:
        raise Refusal(str(error)) from error


def _limits(settings: GatewaySettings) -> Limits:
    return Limits(
        head_s=settings.header_timeout_s,
        body_s=settings.body_timeout_s,
        keep_alive_s=settings.keep_alive_s,
        connections=connections_for(open_files_limit(), settings.max_connections),
    )


def _front_settings(settings: GatewaySettings, model: str) -> FrontSettings:
    return FrontSettings(
        id=settings.id,
        pid=os.getpid(),
        model=model,
        max_model_len=settings.max_model_len,
        max_concurrent_requests=settings.max_concurrent_requests,
        max_body_bytes=settings.max_body_bytes,
        body_timeout_s=settings.body_timeout_s,
        text_threads=settings.text_threads,
        patience=Patience(
            attempts=settings.attempts,
            waiting_s=settings.patience_s,
            resuming_s=settings.resume_patience_s,
            batch_s=settings.batch_patience_s,
            first_token_s=settings.first_token_timeout_s,
            whole_s=settings.request_timeout_s,
        ),
        dev_endpoints=settings.dev_endpoints,
    )
