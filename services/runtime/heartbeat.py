"""How a supervisor tells how a child is: a byte now and then, through a pipe, and its last words.

    .      it gets on           !      it gets on, and is ready to serve           0 and a text      why it ends

A child beats from its event loop, and only while what else must get on gets on (``Pulse.vital``); so one that is
stopped, or whose loop or model is stuck, falls silent. A child that has never beaten is still starting, which
takes longer, but not for ever.
The supervisor looks for beats now and then, and a look that comes late counts no more than two: what held up the
supervisor (a machine that slept, a container that was paused) may have held up everybody.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

HEARTBEAT_FD = "MOONPOOL_HEARTBEAT_FD"
"""The variable by which a supervisor tells a child the descriptor to beat on."""

BEAT_S = 0.5
BEAT, READY, WORDS = b".", b"!", b"\0"
MOST_WORDS = 300
"""Bytes; a pipe takes 65,536 that nobody has read."""

LOOKS = 10
"""So many looks in the time that a child may be silent."""

log = logging.getLogger(__name__)


class Pulse:
    """The child's end, which beats whether or not a supervisor listens: others may ask how long it has been silent.

    vital: False while something hangs beside the event loop.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        descriptor = os.environ.pop(HEARTBEAT_FD, None)  # it is ours alone: not for what we may start ourselves
        self._descriptor = None if descriptor is None else int(descriptor)
        self.vital: Callable[[], bool] = lambda: True
        self._clock = clock
        self._beaten_at = clock()
        self._beat = BEAT
        if self._descriptor is not None:
            os.set_inheritable(self._descriptor, False)
            os.set_blocking(self._descriptor, False)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if self.vital():
                self._beaten_at = self._clock()
                self._tell(self._beat)
            else:
                log.error("something hangs in this process")
            await asyncio.sleep(BEAT_S)

    @property
    def silent_s(self) -> float:
        """Seconds since the last beat, or since it was made. Any thread may ask."""
        return self._clock() - self._beaten_at

    def ready(self) -> None:
        """It serves from now on. Every further beat says so, too, as one may find the pipe full."""
        self._beat = READY
        self._tell(READY)

    def last_words(self, why: str) -> None:
        """Why this process ends, for whoever has to say why it gives up."""
        self._tell(_words(why))

    def _tell(self, what: bytes) -> None:
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, what)
        except BlockingIOError:
            pass  # the supervisor has plenty to read
        except OSError:
            self._descriptor = None  # nobody listens any more


def last_words(why: str) -> None:
    """The same, of a process that ends before it has a pulse; does nothing where it has one, or nobody listens."""
    descriptor = os.environ.get(HEARTBEAT_FD, "")
    if descriptor.isdigit():
        with contextlib.suppress(OSError):
            os.write(int(descriptor), _words(why))


def _words(why: str) -> bytes:
    line = " ".join(why.split())
    return WORDS + line.encode(errors="replace")[:MOST_WORDS]


@dataclass(slots=True)
class Silence:
    """How long a child has not beaten, by looks that should be ``every_s`` apart. Pure: it is told when they were."""

    every_s: float
    lasted_s: float = 0.0

    def looked(self, *, after_s: float, beaten: bool) -> None:
        """after_s: since the look before; beaten: in between."""
        self.lasted_s = 0.0 if beaten else self.lasted_s + min(after_s, 2 * self.every_s)


class Heartbeat:
    """The supervisor's end, for one life of a child; ``close`` it when that life is over.

    ready: set once it serves. last_words: why it ended, where it said so; whole once this is closed.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._starting = True
        self._beaten = False
        self._heard = b""
        self.ready = asyncio.Event()
        self._loop.add_reader(self._reader, self._read)

    def started(self) -> None:
        """The child has its end now, and ours of it is of no use."""
        os.close(self.writer)
        self.writer = -1

    async def silent(self, longest_s: float, *, starting_s: float) -> float:
        """Returns when it has not beaten for that long, as ``Silence`` counts it; for how long.

        starting_s: the same for a child that has never beaten yet.
        """
        silence = Silence(longest_s / LOOKS)
        looked_at = self._loop.time()
        while silence.lasted_s < (starting_s if self._starting else longest_s):
            await asyncio.sleep(silence.every_s)
            now = self._loop.time()
            silence.looked(after_s=now - looked_at, beaten=self._beaten)
            looked_at, self._beaten = now, False
        return silence.lasted_s

    @property
    def last_words(self) -> str:
        return self._heard.decode(errors="replace")

    def close(self) -> None:
        self._loop.remove_reader(self._reader)
        with contextlib.suppress(BlockingIOError):  # somebody still holds the other end
            while said := os.read(self._reader, 4096):
                self._hear(said)
        os.close(self._reader)
        if self.writer >= 0:
            self.started()

    def _read(self) -> None:
        if said := os.read(self._reader, 4096):
            self._starting, self._beaten = False, True
            self._hear(said)
        else:
            self._loop.remove_reader(self._reader)  # it is ending, or has closed its end: its exit tells
            self._starting = True

    def _hear(self, said: bytes) -> None:
        beats, _, why = said.partition(WORDS) if not self._heard else (b"", b"", said)
        if READY in beats:
            self.ready.set()
        self._heard += why
