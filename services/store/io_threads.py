"""A few threads that do jobs which block, and one reader in an event loop that is told of their ends, many at a time.

Cheaper than an executor: no future and no callback for each job, and the loop is woken once for
all jobs that ended since it looked. Jobs of one lane never wait for those of another. A lane that nobody
waits for tells of its jobs by the batch: while threads have work, to wake the loop only takes time from them.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar


@dataclass(frozen=True, slots=True)
class Lane:
    """threads: its jobs at a time. batch: the reader is told once so many have ended, or when none is left to begin."""

    threads: int
    batch: int = 1


Job = TypeVar("Job")
Result = TypeVar("Result")


class IoThreads(Generic[Job, Result]):
    """lanes: by name. work: what their threads do with a job; its exception is a result, too."""

    def __init__(self, lanes: Mapping[str, Lane], work: Callable[[Job], Result]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._some = asyncio.Event()
        self._woken = False
        self._over: deque[tuple[Job, Result | Exception]] = deque()
        self._jobs: dict[str, SimpleQueue[Job | None]] = {lane: SimpleQueue() for lane in lanes}
        self._threads = [
            threading.Thread(target=self._run, args=(self._jobs[name], lane.batch), name=f"{name}-{number}")
            for name, lane in lanes.items()
            for number in range(lane.threads)
        ]
        self._lanes = dict(lanes)
        for thread in self._threads:
            thread.start()

    def submit(self, lane: str, job: Job) -> None:
        """Do it after those that this lane was given before."""
        self._jobs[lane].put(job)

    async def ended(self) -> list[tuple[Job, Result | Exception]]:
        """Jobs that ended since this was asked last, at least one, in the order in which they did. One reader only."""
        while not self._over:
            await self._some.wait()
            self._woken = False  # before looking: what ends from here on wakes us again
            self._some.clear()
        return [self._over.popleft() for _ in range(len(self._over))]

    def close(self) -> None:
        """Waits for what was submitted. Idempotent."""
        for name, lane in self._lanes.items():
            for _ in range(lane.threads):
                self._jobs[name].put(None)
        for thread in self._threads:
            thread.join()

    def _run(self, jobs: "SimpleQueue[Job | None]", batch: int) -> None:
        while (job := jobs.get()) is not None:
            result: Result | Exception
            try:
                result = self._work(job)
            except Exception as failure:
                result = failure
            self._over.append((job, result))
            if not self._woken and (len(self._over) >= batch or jobs.empty()):
                self._woken = True
                with suppress(RuntimeError):  # the loop is closed, and nobody wants to know any more
                    self._loop.call_soon_threadsafe(self._some.set)
