"""Keep children alive until told to stop, then end them stage by stage.

A child that ends unasked is started again, or given up, as its ``Backoff`` says; one that hangs, as its ``Heartbeat``
tells, is killed, and then started again like any that ended; one that is refused as configured ends
the whole deployment. Children have process groups of their own, so that Ctrl-C reaches the supervisor
only, and the kernel kills them if it dies (``end_with_supervisor``).
"""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import services
from services.runtime.backoff import PAUSES_S, Backoff, GiveUp, in_words
from services.runtime.heartbeat import HEARTBEAT_FD, Heartbeat
from services.runtime.logs import fields
from services.runtime.process import SUPERVISOR_PID, Refusal, pause
from services.runtime.up_plan import DRAIN_S, Child, Stage

PROGRAM = (sys.executable, str(Path(services.__file__).parents[1] / "moonpool.py"))
"""The command, started by path: what else lies in the working directory can't be taken for our packages."""

METRICS_PORT = "MOONPOOL_METRICS_PORT"
NOT_SHARED = frozenset({METRICS_PORT, "MOONPOOL_REDIS_URL"})
"""Variables that only one process can follow; and the registry, since these know each other by their sockets."""

log = logging.getLogger(__name__)


class Supervisor:
    """The children of one deployment. given_up: why it ended by itself, if it did.

    hang_s: how long a child may be silent before it is killed; 0: for ever. pauses_s: see ``Backoff``.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        program: Sequence[str] = PROGRAM,
        drain_s: Mapping[Stage, float] = DRAIN_S,
        hang_s: float = 0.0,
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        self._children = children
        self._program = program
        self._drain_s = drain_s
        self._hang_s = hang_s
        self._pauses_s = pauses_s
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._heartbeats: dict[str, Heartbeat] = {}
        self.given_up: str | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Returns once ``stopping`` is set (here too, when a child is given up) and every child has ended."""
        async with asyncio.TaskGroup() as group:
            for child in self._children:
                group.create_task(self._keep(child, stopping), name=child.name)
            group.create_task(self._drain(stopping), name="drain")

    @property
    def awaited(self) -> list[str]:
        """Whoever is not ready now."""
        ready = {name for name, heartbeat in self._heartbeats.items() if heartbeat.ready}
        return [child.name for child in self._children if child.name not in ready]

    def hurry(self) -> None:
        """Kill whoever still drains, so that ``run`` returns soon."""
        alive = {name: process for name, process in self._processes.items() if _lives(process)}
        log.warning("killing who still drains", extra=fields(processes=",".join(alive)))
        for process in alive.values():
            process.kill()

    async def _keep(self, child: Child, stopping: asyncio.Event) -> None:
        """One child's lives, one after the other."""
        backoff = Backoff(self._pauses_s)
        clock = asyncio.get_running_loop().time
        while not stopping.is_set():
            born = clock()
            status, heart = await self._live(child, stopping)
            if stopping.is_set():
                return
            match backoff.ended(status, lived_s=clock() - born, ready=heart.ready, last_words=heart.last_words):
                case GiveUp(reason):
                    self.given_up = f"{child.name} {reason}"
                    stopping.set()
                case restart:
                    extra = fields(status=in_words(status), lived_s=clock() - born, restart_in_s=restart.after_s)
                    log.warning("%s ended", child.name, extra=extra)
                    await pause(stopping, restart.after_s)

    async def _live(self, child: Child, stopping: asyncio.Event) -> tuple[int, Heartbeat]:
        """One life; the status it ends with, and what was heard of it."""
        with closing(Heartbeat()) as heartbeat:
            self._heartbeats[child.name] = heartbeat
            process = self._processes[child.name] = await _start(self._program, child, heartbeat)
            log.info("started %s", child.name, extra=fields(pid=process.pid))
            if stopping.is_set():  # the drain may have passed this stage while the child was being made
                process.kill()
            watching = asyncio.create_task(self._kill_if_silent(child.name, process, heartbeat))
            try:
                status = await process.wait()
            finally:
                watching.cancel()
                del self._heartbeats[child.name]
        return status, heartbeat

    async def _kill_if_silent(self, name: str, process: asyncio.subprocess.Process, heartbeat: Heartbeat) -> None:
        if self._hang_s:
            await heartbeat.silent(self._hang_s)
            log.error("%s hangs and is killed", name, extra=fields(silent_s=self._hang_s))
            process.kill()

    async def _drain(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        for stage in Stage:
            names = [child.name for child in self._children if child.stage is stage]
            alive = {name: self._processes[name] for name in names if _lives(self._processes.get(name))}
            for process in alive.values():
                process.terminate()
            for name in await _still_alive(alive, within_s=self._drain_s[stage]):
                log.warning("%s did not end in time and is killed", name, extra=fields(deadline_s=self._drain_s[stage]))
                with contextlib.suppress(ProcessLookupError):  # it has ended since
                    alive[name].kill()
                await alive[name].wait()


async def _start(program: Sequence[str], child: Child, heartbeat: Heartbeat) -> asyncio.subprocess.Process:
    inherited = {key: value for key, value in os.environ.items() if key not in NOT_SHARED}
    if os.environ.get(METRICS_PORT) == "0":  # a free one for each, named in its log
        inherited[METRICS_PORT] = "0"
    own = {SUPERVISOR_PID: str(os.getpid()), HEARTBEAT_FD: str(heartbeat.writer)}
    try:
        process = await asyncio.create_subprocess_exec(
            *program,
            child.command,
            *child.flags,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            env={**inherited, **child.variables, **own},
            pass_fds=(heartbeat.writer,),
            process_group=0,
        )
    except OSError as error:  # no process, no memory, or no right to run this interpreter
        raise Refusal(f"{child.name} can't be started with {program[0]}: {error.strerror}") from error
    heartbeat.started()
    return process


async def _still_alive(processes: dict[str, asyncio.subprocess.Process], *, within_s: float) -> list[str]:
    """Wait for all; the names of those that did not end in time."""
    waits = {asyncio.create_task(process.wait()): name for name, process in processes.items()}
    if not waits:
        return []
    _, late = await asyncio.wait(waits, timeout=within_s)
    for wait in late:
        wait.cancel()
    return [waits[wait] for wait in late]


def _lives(process: asyncio.subprocess.Process | None) -> bool:
    return process is not None and process.returncode is None
