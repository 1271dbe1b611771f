"""The store's process: settings in; an arena, an SSD file, a catalog behind gRPC, and reports to conductors."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from kvstore.arena import ArenaError
from kvstore.catalog import Catalog
from kvstore.eviction import policy
from kvstore.vocabulary import Admit, Peer
from scheduler.vocabulary import StoreId
from services.registry.directory import directory
from services.registry.entry import Entry, Kind
from services.runtime.flags import load
from services.runtime.heartbeat import Pulse
from services.runtime.logs import fields
from services.runtime.metrics_port import metrics_port
from services.runtime.process import Refusal, run_process
from services.store.copies import Copies
from services.store.door import Door
from services.store.metrics import StoreMetrics
from services.store.node import StoreNode, make_arena, new_incarnation
from services.store.reports import StoreReports
from services.store.server import StoreService
from services.store.settings import StoreSettings
from services.store.spill import Spill
from services.store.ssd_tier import SsdOptions
from services.store.transfers import transfers
from services.wire.address import advertised
from services.wire.channel import serve
from services.wire.pb import store_pb2_grpc
from services.wire.reporting import Reporter, Reporters
from services.wire.tls import Tls, refuse_exposed, tls_of

log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    settings = load(StoreSettings, argv, prog="moonpool store")

    pulse = Pulse()

    async def run(stopping: asyncio.Event) -> None:
        await serve_store(settings, stopping, pulse=pulse)

    return run_process(settings.id, run, log_level=settings.log_level, pulse=pulse)


async def serve_store(
    settings: StoreSettings,
    stopping: asyncio.Event,
    on_ready: Callable[[StoreNode], None] | None = None,
    *,
    pulse: Pulse | None = None,
) -> None:
    """Serve until told to stop. Raises Refusal where the arena can't be had or a conductor wants none of us."""
    tls = tls_of(settings)
    for listen in (settings.listen, settings.transfer_listen):
        refuse_exposed(listen, tls, insecure_network=settings.insecure_network)
    incarnation = new_incarnation()
    try:
        arena = await asyncio.to_thread(make_arena, settings.arena_dir, settings.id, settings.dram, incarnation)
    except ArenaError as error:
        raise Refusal(str(error)) from error
    node = StoreNode(
        arena,
        name=settings.id,
        incarnation=incarnation,
        catalog=Catalog(
            policy=policy(settings.eviction),
            disk_policy=policy(settings.eviction),
            admit=Admit(settings.ssd_admit),
            keeps=settings.reuse,
        ),
        ssd=SsdOptions.of(settings.data_dir, settings.id, settings.ssd if settings.reuse else 0),
    )
    try:
        await _serve(settings, node, tls, stopping, on_ready, pulse or Pulse())
    finally:
        node.close()


async def _serve(
    settings: StoreSettings,
    node: StoreNode,
    tls: Tls | None,
    stopping: asyncio.Event,
    on_ready: Callable[[StoreNode], None] | None,
    pulse: Pulse,
) -> None:
    address = advertised(settings.listen, settings.advertise)
    entry = Entry(Kind.STORE, settings.id, address, settings.host_name, node.incarnation)
    metrics = StoreMetrics(node.catalog, node.ssd)
    door = Door(node, metrics)
    with metrics_port(settings, metrics.registry, pulse=pulse, tls=tls):
        async with transfers(node, metrics.transfers, settings, tls) as peers:
            reports = StoreReports(
                node.catalog,
                store=StoreId(settings.id),
                incarnation=node.incarnation,
                address=entry.address,
                ssd=node.ssd,
                transfer_address=node.transfer_address,
                came=peers.came,
            )
            await door.open()
            server = await serve(
                settings.listen,
                lambda it: store_pb2_grpc.add_StoreServicer_to_server(StoreService(node, door), it),
                tls,
                insecure_network=settings.insecure_network,
            )
            log.info(
                "ready",
                extra=fields(
                    listen=settings.listen,
                    transfers=node.transfer_address,
                    arena=node.arena.path,
                    arena_bytes=node.arena.size_bytes,
                ),
            )
            pulse.ready()
            if on_ready is not None:
                on_ready(node)
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(node.run(), name="store")]
                    tasks.append(group.create_task(_refused(node), name="refused"))
                    tasks.append(group.create_task(door.keep(), name="door"))
                    if settings.spill_to is not None:
                        spill = Spill(node, peers, reports, _peer(settings.spill_to))
                        tasks.append(group.create_task(spill.run(), name="spill"))
                    async with directory(settings, conductors=settings.conductor, announce=entry) as others:
                        copies = Copies(node)

                        def reporter(target: str) -> Reporter:
                            compose = partial(reports.compose, reports.ledger())
                            return Reporter(target, compose, tls=tls, ordered=copies.ordered)

                        reporters = Reporters(others, reporter)
                        tasks.append(group.create_task(reporters.run(), name="reports"))
                        await stopping.wait()
                    await server.stop(None)
                    door.close()
                    await node.drain(settings.drain_s)
                    for task in tasks:
                        task.cancel()
            finally:
                await server.stop(None)
                door.close()


def _peer(spill_to: str) -> Peer:
    store, _, address = spill_to.partition("@")
    return Peer(store, address)


async def _refused(node: StoreNode) -> None:
    raise await node.refused
