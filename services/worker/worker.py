"""One worker's parts, put together by hand; two of them can live in one process.

engine <- model <- model thread <- stepper <- loop <- service
                      ^   ^                    |
       store link ----+   +---- publisher <----+      reports read all of it
"""

import secrets
from dataclasses import dataclass
from pathlib import Path

from engine.port import Engine
from kvstore.device import DeviceBlocks
from kvstore.layout import Identity
from scheduler.batching import Batcher
from scheduler.correction import Correction
from scheduler.progress import BatchLimits
from scheduler.vocabulary import Profile, WorkerId
from services.wire.address import advertised
from services.wire.greeting import Greeting
from services.wire.tls import Tls
from services.worker.loader import Loader
from services.worker.loop import Loop
from services.worker.metrics import WorkerMetrics
from services.worker.model import Model
from services.worker.model_thread import ModelThread
from services.worker.publisher import Publisher
from services.worker.reports import WorkerReports
from services.worker.requests import Requests
from services.worker.server import WorkerService
from services.worker.session_lock import SessionLock
from services.worker.settings import WorkerSettings
from services.worker.stepper import Stepper
from services.worker.store_link import Introduction, StoreLink

PUBLISHED_SHARE = 4
"""At most a quarter of the device blocks is pinned to be copied to the store; requests need the rest."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What the process runs, serves, reports and releases in the end. link and lock None: there is no store."""

    identity: Identity
    device: DeviceBlocks
    batcher: Batcher
    loop: Loop
    publisher: Publisher
    link: StoreLink | None
    lock: SessionLock | None
    service: WorkerService
    reports: WorkerReports
    metrics: WorkerMetrics


def make_worker(
    settings: WorkerSettings,
    engine: Engine,
    profile: Profile,
    thread: ModelThread,
    *,
    model_name: str,
    run_dir: Path,
    tls: Tls | None = None,
) -> Worker:
    """Nothing runs yet. Raises OSError where the session's lock file can't be made."""
    identity = Identity(model_name, engine.weights, engine.dtype, engine.layout.block_tokens, engine.layout.digest)
    incarnation = secrets.randbits(63) | 1
    device = DeviceBlocks(engine.blocks_total)
    model = Model(engine, verify_lifts=settings.verify_lifts)
    max_model_len = min(settings.max_model_len or engine.max_model_len, engine.max_model_len)
    limits = BatchLimits(settings.max_num_seqs, settings.max_num_batched_tokens, max_model_len, settings.max_waiting)
    metrics = WorkerMetrics(model_name, settings.role.value, max_model_len=max_model_len)
    metrics.configured(
        block_size=engine.layout.block_tokens, num_gpu_blocks=engine.blocks_total, cache_dtype=engine.dtype
    )
    batcher = Batcher(device, block_tokens=engine.layout.block_tokens, limits=limits, profile=profile)
    link, lock = None, None
    if settings.store is not None or settings.redis_url is not None:
        lock = SessionLock(run_dir, settings.id, incarnation)
        introduction = Introduction(settings.id, incarnation, identity, engine.layout, lock)
        link = StoreLink(introduction, thread, model, tls)
    publisher = Publisher(link, device, thread, model, metrics, limit=max(1, engine.blocks_total // PUBLISHED_SHARE))
    correction = Correction(profile)
    stepper = Stepper(batcher, thread, model, publisher, metrics, correction)
    max_tickets = settings.max_num_seqs + settings.max_waiting
    layout = engine.layout
    loader = Loader(
        link,
        device,
        thread,
        model,
        metrics,
        correction,
        block_bytes=layout.block_bytes,
        block_tokens=layout.block_tokens,
    )
    loop = Loop(batcher, stepper, loader, publisher, metrics, max_tickets=max_tickets)
    publisher.freed = loader.freed = loop.wake
    metrics.watch(batcher.snapshot, device, lambda: link is not None and link.session is not None)
    reports = WorkerReports(
        worker=WorkerId(settings.id),
        incarnation=incarnation,
        role=settings.role,
        address=advertised(settings.listen, settings.advertise),
        identity=identity,
        block_bytes=engine.layout.block_bytes,
        max_num_seqs=settings.max_num_seqs,
        max_model_len=min(max_model_len, engine.blocks_total * engine.layout.block_tokens),
        batcher=batcher,
        device=device,
        loop=loop,
        link=link,
    )
    service = WorkerService(loop, device, Requests(engine.vocab_size), metrics, Greeting.of(settings.id, identity))
    return Worker(identity, device, batcher, loop, publisher, link, lock, service, reports, metrics)
