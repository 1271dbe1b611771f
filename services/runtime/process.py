"""The life of a process: it is named in its log, drains when told, and never outlives its supervisor.

Its event loop beats for its supervisor (``heartbeat``). The first SIGTERM, SIGINT or SIGHUP (of a terminal that
closes; not where it was ignored from the beginning, as nohup has it) sets the ``stopping`` event that ``serve`` waits
for; the next, but a SIGHUP, ends the process at once (a supervisor kills its children first, and clears up). Exit
status: 0 after a clean end, 1 when ``serve`` fails, 2 for bad flags, 78 (EX_CONFIG) when it is refused as configured.
"""

import asyncio
import ctypes
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator

from services.runtime.descriptors import raise_soft_limit
from services.runtime.heartbeat import Pulse
from services.runtime.logs import configure_logging
from services.runtime.output import end_output

SUPERVISOR_PID = "MOONPOOL_SUPERVISOR_PID"
"""The variable by which a supervisor tells its children whose death is theirs."""

REFUSED = 78
_PR_SET_PDEATHSIG = 1

AT_ONCE_S = 0.2
"""For the last lines of a process that is to end at once."""

Serve = Callable[[asyncio.Event], Awaitable[None]]

log = logging.getLogger(__name__)


class Refusal(Exception):
    """This process cannot serve as it is configured, and a restart would not help; the message is a sentence."""


def run_process(
    name: str,
    serve: Serve,
    *,
    log_level: str = "info",
    hurry: Callable[[], None] | None = None,
    pulse: Pulse | None = None,
) -> int:
    """Run ``serve(stopping)`` in an event loop until it returns; the exit status.

    hurry: what a second signal does, where there is something to clear up first; then it takes a third to end at once.
    pulse: where this process knows of more than its event loop that must get on.
    """
    end_with_supervisor()
    raise_soft_limit()
    configure_logging(name, level=log_level)
    pulse = pulse or Pulse()
    try:
        asyncio.run(_run(serve, hurry, pulse))
    except BaseException as error:
        refusal = next(_refusals(error), None)
        if refusal is not None:
            log.error(str(refusal))
            pulse.last_words(str(refusal))
            return REFUSED
        if not isinstance(error, Exception):
            raise
        log.exception("ended by an error")
        pulse.last_words(in_short(error))
        return 1
    return 0


def end_with_supervisor() -> None:
    """Have the kernel kill this process when its supervisor dies; the first thing that a supervised process does.

    Does nothing when no supervisor is named. The signal is asked for first and the parent
    checked after, so a supervisor that died in between is noticed.
    """
    supervisor = os.environ.pop(SUPERVISOR_PID, None)  # it is ours alone: not for what we may start ourselves
    if supervisor is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(supervisor):
        os._exit(1)


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Wait that long, or until the process is told to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        pass


async def _run(serve: Serve, hurry: Callable[[], None] | None, pulse: Pulse) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    ways_out = [hurry] if hurry is not None else []

    def stop(received: signal.Signals) -> None:
        if not stopping.is_set():
            log.info("stopping on %s", received.name)
            stopping.set()
        elif received is signal.SIGHUP:
            pass  # one terminal that closes sends several: the shell's, then the kernel's
        elif ways_out:
            ways_out.pop()()
        else:
            end_output(AT_ONCE_S)
            os._exit(128 + received)

    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if each is not signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN:
            loop.add_signal_handler(each, stop, each)
    beating = asyncio.create_task(pulse.run(), name="heartbeat")
    try:
        await serve(stopping)
    finally:
        beating.cancel()


def in_short(error: BaseException) -> str:
    """Its kind and what it says; of several the first, of one that has a cause what it began with."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _refusals(error: BaseException) -> Iterator[Refusal]:
    """Refusals anywhere in a tree of exception groups."""
    if isinstance(error, Refusal):
        yield error
    elif isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _refusals(inner)
