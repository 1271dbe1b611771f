"""``moonpool up``: one supervisor, all processes of a deployment on this machine.

What can be known beforehand is checked before anything starts: the port, the run
directory, the arena's place, the model. Leftovers of an ``up`` that was killed are
cleared here, and our own at the end, whatever ended us.
"""

import asyncio
import errno
import json
import logging
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from kvstore.arena import ArenaError
from services.models.errors import ModelError
from services.models.progress import showing_progress
from services.models.resolve import ModelFiles, resolve_model
from services.runtime.flags import load
from services.runtime.http import get
from services.runtime.machine import free_bytes, spare_dram, spare_ssd, usable_cores
from services.runtime.process import Refusal, pause, run_process
from services.runtime.processes import process_settings
from services.runtime.run_dir import RunDir, RunDirError, keep, run_dir
from services.runtime.size import format_size
from services.runtime.supervisor import Supervisor
from services.runtime.up_plan import Deployment
from services.runtime.up_settings import UpSettings
from services.runtime.waiting import Waiting
from services.store.leftovers import clear_arena_directory
from services.wire.tls import checked_tls

log = logging.getLogger(__name__)

PROBE_PAUSE_S = 0.1
PROBE_TIMEOUT_S = 2.0


class UpError(Exception):
    """The deployment can't be started; the message is a sentence for the operator."""


def main(argv: Sequence[str]) -> int:
    settings = load(UpSettings, argv, prog="moonpool up")
    try:
        checked_tls(settings)
        _check_port(settings.host, settings.port)
        if settings.hosts > 1 and not (settings.transfer_listen or ":0").endswith(":0"):
            raise UpError(f"{settings.hosts} stores can't all listen at {settings.transfer_listen}; give port 0")
        if not settings.arena_dir.is_dir():
            raise UpError(f"the arena directory {settings.arena_dir} does not exist")
        with run_dir(settings.port) as directory:
            return _run(settings, directory)
    except (UpError, RunDirError, ModelError, ArenaError, Refusal) as error:
        print(f"moonpool up: {error}", file=sys.stderr)
        return 1


def _run(settings: UpSettings, directory: RunDir) -> int:
    clear_arena_directory(settings.arena_dir)
    try:
        _check_room(settings)
        model = _model(settings)
        children = deployment(settings, model, directory.path).children()
        served_name = settings.served_model_name or model.served_name

        supervisor = Supervisor(children, hang_s=settings.hang_s)

        async def serve(stopping: asyncio.Event) -> None:
            keeping = asyncio.create_task(keep(directory), name="run directory")
            try:
                await _serve(supervisor, stopping, settings, served_name)
            finally:
                keeping.cancel()

        return run_process("up", serve, log_level=settings.log_level, hurry=supervisor.hurry)
    finally:
        clear_arena_directory(settings.arena_dir)


async def _serve(supervisor: Supervisor, stopping: asyncio.Event, settings: UpSettings, served_name: str) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_announce(supervisor, settings, served_name, stopping), name="announce")
        group.create_task(supervisor.run(stopping), name="supervisor")
    if supervisor.given_up:
        raise Refusal(supervisor.given_up)


async def _announce(supervisor: Supervisor, settings: UpSettings, served_name: str, stopping: asyncio.Event) -> None:
    """Say how to use the deployment, once whoever should serve a request would; until then, who is waited for."""
    url = base_url(settings.host, settings.port)
    clock = asyncio.get_running_loop().time
    waiting = Waiting(since=clock())
    while not stopping.is_set():
        try:
            status, degraded = await asyncio.to_thread(get, f"{url}/health", timeout_s=PROBE_TIMEOUT_S)
        except OSError:
            status, degraded = 0, b""
        if status == 200 and (not degraded or not settings.prefill):
            print(welcome(url, served_name), flush=True)
            return
        if (said := waiting.look(supervisor.awaited or ["the gateway to know its workers"], now=clock())) is not None:
            log.info(said)
        await pause(stopping, PROBE_PAUSE_S)


def welcome(url: str, served_name: str) -> str:
    """The base URL, and a command that answers as it stands."""
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    ask = {"model": served_name, "messages": messages, "max_tokens": 64, "temperature": 0}
    body = json.dumps(ask).replace("'", "'\\''")
    curl = f"curl {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'"
    return f"\n{served_name} is served at {url}/v1 until Ctrl-C. Try:\n\n{curl}\n"


def base_url(host: str, port: int) -> str:
    """The URL by which this machine reaches a gateway that listens on ``host``."""
    near = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


def deployment(settings: UpSettings, model: ModelFiles, directory: Path) -> Deployment:
    """Everything that was left open, decided for this machine."""
    threads = settings.threads or max(1, usable_cores() // (settings.prefill + settings.decode))
    decided = {
        "model": str(model.directory),
        "served_model_name": settings.served_model_name or model.served_name,
        "ssd": spare_ssd(settings.data_dir / "ssd", stores=settings.hosts) if settings.ssd is None else settings.ssd,
        "dram": settings.dram or spare_dram(settings.arena_dir, stores=settings.hosts),
    }
    return Deployment(
        prefill=settings.prefill,
        decode=settings.decode,
        hosts=settings.hosts,
        threads=threads,
        run_dir=directory,
        known={command: frozenset(known.model_fields) for command, known in process_settings().items()},
        values={**dict(settings), **decided},
    )


def _model(settings: UpSettings) -> ModelFiles:
    if settings.engine == "toy":
        return ModelFiles(Path("toy"), "toy")
    with showing_progress() as on_progress:
        return resolve_model(settings.model, settings.data_dir, on_progress=on_progress)


def _check_room(settings: UpSettings) -> None:
    """An arena that can't be had is told at once, not by a store that is started three times."""
    asked, free = settings.hosts * (settings.dram or 0), free_bytes(settings.arena_dir)
    if asked > free:
        whose = "the arena needs" if settings.hosts == 1 else f"the {settings.hosts} arenas need"
        room = f"{whose} {format_size(asked)} in {settings.arena_dir}, which has {free >> 20:,} MiB free"
        raise UpError(f"{room}: give a smaller --dram, or an --arena-dir with more room")


def _check_port(host: str, port: int) -> None:
    """Try what the gateway will do; it would fail only much later, and again and again."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UpError(f"port {port} on {host} is in use; choose another with --port") from error
        raise UpError(f"can't listen on {host} port {port}: {error.strerror}") from error
