"""How a supervisor tells a child that hangs from one that works: a byte now and then, through a pipe.

A child beats from its event loop, and only while what else must get on gets on (``Pulse.vital``); so one that is
stopped, or whose loop or model is stuck, falls silent. A child that has never beaten is still starting.
The supervisor's end reads before it looks at the time, so its own pauses are nobody else's silence.
"""

import asyncio
import logging
import os
from collections.abc import Callable

HEARTBEAT_FD = "MOONPOOL_HEARTBEAT_FD"
"""The variable by which a supervisor tells a child the descriptor to beat on."""

BEAT_S = 0.5

log = logging.getLogger(__name__)


class Pulse:
    """The child's end; does nothing where nobody listens. vital: False while something hangs beside the event loop."""

    def __init__(self) -> None:
        descriptor = os.environ.pop(HEARTBEAT_FD, None)  # it is ours alone: not for what we may start ourselves
        self._descriptor = None if descriptor is None else int(descriptor)
        self.vital: Callable[[], bool] = lambda: True
        if self._descriptor is not None:
            os.set_inheritable(self._descriptor, False)
            os.set_blocking(self._descriptor, False)

    async def run(self) -> None:
        """Until cancelled, or until nobody listens any more."""
        while self._descriptor is not None:
            if self.vital():
                try:
                    os.write(self._descriptor, b".")
                except BlockingIOError:
                    pass  # the supervisor has plenty to read
                except OSError:
                    return
            else:
                log.error("something hangs in this process")
            await asyncio.sleep(BEAT_S)


class Heartbeat:
    """The supervisor's end, for one life of a child; ``close`` it when that life is over."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._latest: float | None = None
        self._loop.add_reader(self._reader, self._read)

    def started(self) -> None:
        """The child has its end now, and ours of it is of no use."""
        os.close(self.writer)
        self.writer = -1

    async def silent(self, longest_s: float) -> None:
        """Returns when a child that has beaten has not done so for that long."""
        while True:
            silent_s = 0.0 if self._latest is None else self._loop.time() - self._latest
            if silent_s > longest_s:
                return
            await asyncio.sleep(max(longest_s - silent_s, longest_s / 10))

    def close(self) -> None:
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        if self.writer >= 0:
            self.started()

    def _read(self) -> None:
        if os.read(self._reader, 4096):
            self._latest = self._loop.time()
        else:
            self._loop.remove_reader(self._reader)  # it is ending, or has closed its end: its exit tells
            self._latest = None
