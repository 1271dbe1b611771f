"""The one thread that touches the model: jobs in, results out, in the order they were given.

The engine and the mapped arena belong to this thread. Whoever waits for a job waits
for its end, cancelled or not, so what a job uses may be given back right after the
wait. An engine that raises is broken: no later job runs, and whoever asks for one is told.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)

LONGEST_JOB_S = 30.0
"""Steps are bounded to a fraction of a second by estimate; what takes this long hangs."""

T = TypeVar("T")
Job = Callable[[], None]


class EngineFailed(Exception):
    """The engine raised in an earlier job or in this one; the process has to end."""


class ModelThread:
    """Owns a thread from ``start`` to ``stop``; ``run`` is for the event loop's side.

    The queue is bounded by its users: a step, a map of the arena, and a copy for each load, handoff and publication.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._error: BaseException | None = None
        self._stopped = False
        self._busy_since: float | None = None  # of a job that has a bound

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> bool:
        """Let the jobs that were given finish, then end the thread. False: it hangs, and may yet touch the arena."""
        self._stopped = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, LONGEST_JOB_S)
        if self._thread.is_alive():
            log.error("the model thread hangs in a job")
        return not self._thread.is_alive()

    def gets_on(self) -> bool:
        """False while a job hangs. Any thread may ask."""
        since = self._busy_since
        return since is None or time.monotonic() - since < LONGEST_JOB_S

    async def run(self, job: Callable[[], T], *, bounded: bool = True) -> T:
        """The job's result. Raises EngineFailed where it raises, or where the engine is broken already.

        Cancelling waits for the job's end first: a job can't be taken back from the model. bounded: it hangs if it
        takes LONGEST_JOB_S.
        """
        if self._stopped:
            raise EngineFailed("the model thread has ended")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            self._busy_since = time.monotonic() if bounded else None
            try:
                self._check()
                result = job()
            except BaseException as error:
                self._break(error)
                loop.call_soon_threadsafe(_fail, done, error)
            else:
                loop.call_soon_threadsafe(_resolve, done, result)

        self._jobs.put(work)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            while not done.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([done])
            done.exception()  # seen, so that asyncio does not complain; the next job tells
            raise

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            self._busy_since = None

    def _check(self) -> None:
        if self._error is not None:
            raise EngineFailed("the engine has failed before")

    def _break(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
            log.error("the engine failed", exc_info=error)


def _resolve(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if future.done():
        return
    failure = error if isinstance(error, EngineFailed) else EngineFailed(f"the engine failed: {error!r}")
    failure.__cause__ = error if failure is not error else None
    future.set_exception(failure)
