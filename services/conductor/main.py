"""The conductor's process: settings in, one Conductor behind gRPC, a tick now and then."""

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from math import inf

from prometheus_client import CollectorRegistry

from scheduler.conductor import Conductor
from scheduler.costs import LINK_BYTES_PER_S
from scheduler.vocabulary import Promise
from services.conductor.metrics import ConductorCollector
from services.conductor.notices import Notices
from services.conductor.server import ConductorService
from services.conductor.settings import ConductorSettings
from services.registry.directory import directory
from services.registry.entry import Entry, Kind
from services.runtime.flags import load
from services.runtime.garbage import collect_seldom
from services.runtime.heartbeat import Pulse
from services.runtime.logs import fields
from services.runtime.metrics_port import metrics_port
from services.runtime.process import pause, run_process
from services.wire.address import advertised
from services.wire.channel import serve
from services.wire.pb import conductor_pb2_grpc
from services.wire.tls import tls_of

TICK_S = 0.1
"""How late a silent process may be noticed."""

SETTLES_S = 0.15
"""From the first report on: everybody is back within one interval of reports (0.1 s), give or take a fifth. Who asks
meanwhile asks another conductor, or again in 0.05 s; else one decode worker that was heard first would get all."""

STOP_S = 0.5
"""For calls under way; every one takes microseconds."""

log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    settings = load(ConductorSettings, argv, prog="moonpool conductor")

    pulse = Pulse()

    async def run(stopping: asyncio.Event) -> None:
        await serve_conductor(settings, stopping, pulse=pulse)

    return run_process(settings.id, run, log_level=settings.log_level, pulse=pulse)


async def serve_conductor(settings: ConductorSettings, stopping: asyncio.Event, pulse: Pulse | None = None) -> None:
    """Serve until told to stop."""
    conductor = Conductor(
        inline_max_tokens=settings.inline_max_tokens,
        link_bytes_per_s=LINK_BYTES_PER_S if settings.link_rate is None else settings.link_rate,
        policy=settings.policy,
        admission=settings.admission,
        elastic=settings.elastic,
        advises=True,
        replicate=settings.replicate,
        promise=Promise(settings.slo_ttft_s or inf, settings.slo_tpot_s or inf),
        settles_s=SETTLES_S,
    )
    service = ConductorService(conductor, name=settings.id, clock=time.monotonic)
    registry = CollectorRegistry()
    registry.register(ConductorCollector(conductor))
    tls = tls_of(settings)
    pulse = pulse or Pulse()
    with metrics_port(settings, registry, pulse=pulse, tls=tls):
        server = await serve(
            settings.listen,
            lambda it: conductor_pb2_grpc.add_ConductorServicer_to_server(service, it),
            tls,
            insecure_network=settings.insecure_network,
        )
        collect_seldom()
        try:
            async with directory(settings, announce=_entry(settings)):
                log.info("ready", extra=fields(listen=settings.listen))
                pulse.ready()
                notices = Notices(conductor, elastic=settings.elastic)
                while not stopping.is_set():
                    conductor.tick(now=time.monotonic())
                    notices.look()
                    await pause(stopping, TICK_S)
        finally:
            await server.stop(STOP_S)


def _entry(settings: ConductorSettings) -> Entry:
    address = advertised(settings.listen, settings.advertise)
    return Entry(Kind.CONDUCTOR, settings.id, address, settings.host_name, secrets.randbits(63))
