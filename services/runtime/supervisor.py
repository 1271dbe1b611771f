"""Keep children alive until told to stop, then end them stage by stage.

A child that ends unasked is started again, or given up, as its ``Backoff`` says: one that was ready once for ever, and
meanwhile the deployment goes on without it. One that hangs, as its ``Heartbeat`` tells, is killed, and then started
again like any that ended; one that is refused as configured from the beginning ends the whole deployment.
Children have process groups of their own, so that Ctrl-C reaches the supervisor only, write through it
(``ChildOutput``), and are killed by the kernel if it dies (``end_with_supervisor``).
"""

import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import services
from services.runtime.backoff import PAUSES_S, Backoff, GiveUp, in_words
from services.runtime.child_output import ChildOutput
from services.runtime.child_process import ChildProcess
from services.runtime.heartbeat import HEARTBEAT_FD, Heartbeat
from services.runtime.logs import fields
from services.runtime.process import SUPERVISOR_PID, pause
from services.runtime.up_plan import DRAIN_S, Child, Stage

PROGRAM = (sys.executable, str(Path(services.__file__).parents[1] / "moonpool.py"))
"""The command, started by path: what else lies in the working directory can't be taken for our packages."""

METRICS_PORT = "MOONPOOL_METRICS_PORT"
NOT_SHARED = frozenset({METRICS_PORT, "MOONPOOL_REDIS_URL"})
"""Variables that only one process can follow; and the registry, since these know each other by their sockets."""

START_S = 120.0
"""For a child to give its first sign of life, which it does before it loads a model; some seconds where all is well."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Life:
    """One that is over. status: None where it could not be started. ready: it served."""

    status: int | None
    lived_s: float
    ready: bool
    last_words: str


class Supervisor:
    """The children of one deployment. given_up: why it ended by itself, if it did.

    hang_s: how long a child may be silent before it is killed, start_s: the same before its first sign of life;
    hang_s 0: for ever. pauses_s: see ``Backoff``.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        program: Sequence[str] = PROGRAM,
        drain_s: Mapping[Stage, float] = DRAIN_S,
        hang_s: float = 0.0,
        start_s: float = START_S,
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        self._children = children
        self._program = program
        self._drain_s = drain_s
        self._hang_s = hang_s
        self._start_s = start_s
        self._pauses_s = pauses_s
        self._processes: dict[str, ChildProcess] = {}
        self._heartbeats: dict[str, Heartbeat] = {}
        self._missed: dict[str, float] = {}
        """Children that were ready, could not be started again, and were said to be missed; since when they are."""
        self.given_up: str | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Returns once ``stopping`` is set (here too, when a child is given up) and every child has ended."""
        try:
            async with asyncio.TaskGroup() as group:
                for child in self._children:
                    group.create_task(self._keep(child, stopping), name=child.name)
                group.create_task(self._drain(stopping), name="drain")
        finally:  # of a bug of ours, too, nothing is left behind
            for process in self._processes.values():
                process.kill()

    @property
    def awaited(self) -> list[str]:
        """Those that are not ready now."""
        ready = {name for name, heartbeat in self._heartbeats.items() if heartbeat.ready.is_set()}
        return [child.name for child in self._children if child.name not in ready]

    def hurry(self) -> None:
        """Kill those that still drain, so that ``run`` returns soon."""
        alive = {name: process for name, process in self._processes.items() if process.lives}
        log.warning("killing who still drains", extra=fields(processes=",".join(alive)))
        for process in alive.values():
            process.kill()

    async def _keep(self, child: Child, stopping: asyncio.Event) -> None:
        """One child's lives, one after the other."""
        backoff = Backoff(self._pauses_s)
        while not stopping.is_set():
            life = await self._live(child, stopping)
            if stopping.is_set():
                return
            match backoff.ended(life.status, lived_s=life.lived_s, ready=life.ready, last_words=life.last_words):
                case GiveUp(reason):
                    self.given_up = f"{child.name} {reason}"
                    stopping.set()
                case restart:
                    self._say_ended(child.name, life, restart.after_s)
                    if backoff.was_ready and not life.ready:
                        self._say_missed(child.name, life)
                    await pause(stopping, restart.after_s)

    def _say_ended(self, name: str, life: Life, restart_in_s: float) -> None:
        status = in_words(life.status)
        extra = fields(status=status, lived_s=life.lived_s, restart_in_s=restart_in_s, reason=life.last_words or None)
        log.warning("%s ended", name, extra=extra)

    def _say_missed(self, name: str, life: Life) -> None:
        """Once, however often it is started in vain."""
        if name not in self._missed:
            self._missed[name] = asyncio.get_running_loop().time() - life.lived_s
            log.error("%s does not come back: the deployment goes on without it and keeps starting it", name)

    async def _live(self, child: Child, stopping: asyncio.Event) -> Life:
        """One life, to its end."""
        clock = asyncio.get_running_loop().time
        born = clock()
        try:
            heartbeat = Heartbeat()
        except OSError as error:
            return Life(None, 0.0, ready=False, last_words=f"no pipe for it: {error.strerror}")
        with closing(heartbeat):
            try:
                status = await self._attended(child, heartbeat, stopping)
            except OSError as error:  # no process, no memory, or no interpreter, for now or for ever
                why = f"can't be started with {self._program[0]}: {error.strerror}"
                return Life(None, 0.0, ready=False, last_words=why)
        return Life(status, clock() - born, ready=heartbeat.ready.is_set(), last_words=heartbeat.last_words)

    async def _attended(self, child: Child, heartbeat: Heartbeat, stopping: asyncio.Event) -> int:
        """Start it and wait for its end, while its output is passed on and its heart is listened to."""
        with closing(ChildOutput(_pass_on)) as output:
            process = _start(self._program, child, heartbeat, output)
            self._processes[child.name], self._heartbeats[child.name] = process, heartbeat
            log.info("started %s", child.name, extra=fields(pid=process.pid))
            if stopping.is_set():  # the drain may have passed this stage while the child was being made
                process.kill()
            watching = [
                asyncio.create_task(self._kill_if_silent(child.name, process, heartbeat)),
                asyncio.create_task(self._say_back(child.name, heartbeat)),
            ]
            try:
                return await process.wait()
            finally:
                for each in watching:
                    each.cancel()
                del self._heartbeats[child.name]

    async def _say_back(self, name: str, heartbeat: Heartbeat) -> None:
        await heartbeat.ready.wait()
        since = self._missed.pop(name, None)
        if since is not None:
            log.info("%s is back", name, extra=fields(missed_s=asyncio.get_running_loop().time() - since))

    async def _kill_if_silent(self, name: str, process: ChildProcess, heartbeat: Heartbeat) -> None:
        if self._hang_s:
            silent_s = await heartbeat.silent(self._hang_s, starting_s=max(self._start_s, self._hang_s))
            log.error("%s hangs and is killed", name, extra=fields(silent_s=silent_s))
            process.kill()

    async def _drain(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        for stage in Stage:
            names = [child.name for child in self._children if child.stage is stage]
            alive = {name: self._processes[name] for name in names if name in self._processes}
            for process in alive.values():
                process.terminate()
            for name in await _still_alive(alive, within_s=self._drain_s[stage]):
                log.warning("%s did not end in time and is killed", name, extra=fields(deadline_s=self._drain_s[stage]))
                alive[name].kill()
                await alive[name].wait()


def _start(program: Sequence[str], child: Child, heartbeat: Heartbeat, output: ChildOutput) -> ChildProcess:
    """Raises OSError."""
    inherited = {key: value for key, value in os.environ.items() if key not in NOT_SHARED}
    if os.environ.get(METRICS_PORT) == "0":  # a free one for each, named in its log
        inherited[METRICS_PORT] = "0"
    own = {SUPERVISOR_PID: str(os.getpid()), HEARTBEAT_FD: str(heartbeat.writer)}
    process = ChildProcess.start(
        (*program, child.command, *child.flags),
        variables={**inherited, **child.variables, **own},
        output=output.writer,
        inherits=(heartbeat.writer,),
    )
    heartbeat.started()
    output.started()
    return process


def _pass_on(lines: bytes) -> None:
    sys.stderr.write(lines.decode(errors="backslashreplace"))
    sys.stderr.flush()


async def _still_alive(processes: dict[str, ChildProcess], *, within_s: float) -> list[str]:
    """Wait for all; the names of those that did not end in time."""
    waits = {asyncio.create_task(process.wait()): name for name, process in processes.items()}
    if not waits:
        return []
    _, late = await asyncio.wait(waits, timeout=within_s)
    for wait in late:
        wait.cancel()
    return [waits[wait] for wait in late]
