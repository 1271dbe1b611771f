"""The worker's process: settings in, a model in its thread, calls served until told to stop.

Ending, in this order: nothing new is taken and conductors are told; running streams go on
for a while; the model thread ends; then the session's lock is released, which tells
the store that nothing of this process can touch the arena any more.
"""

import asyncio
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from engine.port import Engine, EngineError
from scheduler.vocabulary import Profile
from services.models.errors import ModelError
from services.registry.directory import Directory, directory
from services.runtime.flags import load
from services.runtime.heartbeat import Pulse
from services.runtime.logs import fields
from services.runtime.metrics_port import metrics_port
from services.runtime.process import Refusal, run_process
from services.wire.channel import serve
from services.wire.pb import worker_pb2_grpc
from services.wire.reporting import Reporter, Reporters
from services.wire.tls import Tls, refuse_exposed, tls_of
from services.worker.engines import make_engine
from services.worker.model_thread import ModelThread
from services.worker.settings import WorkerSettings
from services.worker.worker import Worker, make_worker

STORE_S = 2.0
"""How long a new worker waits for its first session before it serves without."""

STOP_S = 0.5
"""For calls that were told to end, to say so."""

log = logging.getLogger(__name__)

MakeEngine = Callable[[WorkerSettings], tuple[Engine, str]]


def main(argv: Sequence[str]) -> int:
    settings = load(WorkerSettings, argv, prog="moonpool worker")

    pulse = Pulse()

    async def run(stopping: asyncio.Event) -> None:
        await serve_worker(settings, stopping, pulse=pulse)

    return run_process(settings.id, run, log_level=settings.log_level, pulse=pulse)


async def serve_worker(
    settings: WorkerSettings,
    stopping: asyncio.Event,
    *,
    make: MakeEngine = make_engine,
    on_ready: Callable[[Worker], None] | None = None,
    pulse: Pulse | None = None,
) -> None:
    """Serve until told to stop. Raises Refusal where the model can't be run, or store or conductor want none of us."""
    tls = tls_of(settings)
    refuse_exposed(settings.listen, tls, insecure_network=settings.insecure_network)
    thread = ModelThread()
    thread.start()
    pulse = pulse or Pulse()
    pulse.vital = thread.gets_on
    loading = asyncio.create_task(thread.run(lambda: _load(settings, make), bounded=False), name="load the model")
    if await _stopped_first(stopping, loading):
        log.info("stopped before the model was loaded")
        return  # nothing is held yet, and the thread, a daemon, can't be interrupted
    engine, model_name, profile = _loaded(loading.result())
    run_dir = settings.run_dir or Path(tempfile.gettempdir())
    try:
        worker = make_worker(settings, engine, profile, thread, model_name=model_name, run_dir=run_dir, tls=tls)
    except OSError as error:
        raise Refusal(f"the session's lock file can't be made in {run_dir}: {error.strerror}") from error
    try:
        with metrics_port(settings, worker.metrics.registry, pulse=pulse, tls=tls):
            async with directory(settings, conductors=settings.conductor, store=settings.store) as others:
                await _serve(settings, worker, others, tls, stopping, pulse, on_ready)
    finally:
        if await thread.stop() and worker.lock is not None:
            worker.lock.release()


async def _serve(
    settings: WorkerSettings,
    worker: Worker,
    others: Directory,
    tls: Tls | None,
    stopping: asyncio.Event,
    pulse: Pulse,
    on_ready: Callable[[Worker], None] | None,
) -> None:
    server = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(worker.publisher.run(), name="publisher")]
            if worker.link is not None:
                tasks.append(group.create_task(worker.link.run(others), name="store link"))
                await _wait(worker.link.connected.wait(), STORE_S)
            tasks.append(group.create_task(worker.loop.run(), name="loop"))
            server = await serve(
                settings.listen,
                lambda it: worker_pb2_grpc.add_WorkerServicer_to_server(worker.service, it),
                tls,
                insecure_network=settings.insecure_network,
            )
            reporters = Reporters(
                others,
                lambda target: Reporter(target, worker.reports.compose, tls=tls, directed=worker.reports.take_role),
            )
            tasks.append(group.create_task(reporters.run(), name="reports"))
            _log_ready(settings, worker)
            pulse.ready()
            if on_ready is not None:
                on_ready(worker)
            await stopping.wait()
            worker.loop.draining = True
            reporters.hurry()
            await _wait(worker.loop.drain(), settings.drain_s)
            for task in tasks:
                task.cancel()
    finally:
        if server is not None:
            await server.stop(STOP_S)


def _load(settings: WorkerSettings, make: MakeEngine) -> tuple[Engine, str, Profile] | EngineError | ModelError:
    """In the model thread. What is wrong with the model is an answer here, not a broken engine."""
    try:
        started = time.monotonic()
        engine, model_name = make(settings)
    except (EngineError, ModelError) as error:
        return error
    log.info("warming up", extra=fields(model=model_name, loaded_in_s=time.monotonic() - started))
    return engine, model_name, engine.warm_up()


def _loaded(answer: tuple[Engine, str, Profile] | EngineError | ModelError) -> tuple[Engine, str, Profile]:
    if isinstance(answer, Exception):
        raise Refusal(str(answer)) from answer
    return answer


async def _stopped_first(stopping: asyncio.Event, loading: "asyncio.Task[object]") -> bool:
    waiting = asyncio.create_task(stopping.wait(), name="stopping")
    try:
        await asyncio.wait([waiting, loading], return_when=asyncio.FIRST_COMPLETED)
        return not loading.done()
    finally:
        waiting.cancel()


async def _wait(something: Awaitable[object], seconds: float) -> None:
    """For at most that long."""
    try:
        async with asyncio.timeout(seconds):
            await something
    except TimeoutError:
        pass


def _log_ready(settings: WorkerSettings, worker: Worker) -> None:
    tokens = worker.device.total * worker.identity.block_tokens
    log.info(
        "ready",
        extra=fields(
            listen=settings.listen,
            role=settings.role.value,
            model=worker.identity.model,
            dtype=worker.identity.dtype,
            kv_capacity_tokens=tokens,
            longest_sequence_tokens=worker.reports.max_model_len,
            store=settings.store,
        ),
    )
