"""Share the threads that parse bodies, render templates and tokenize, fairly between requests.

Work is done in pieces, such as one prompt of several. A request has one piece running at a time, and after it waits at
the end of its line, so no request holds more than one thread. Short and long texts wait in lines of their own which
are served in turn; long ones never take the last thread where there are several, so that a short text waits for
others of its kind, or for one piece of a long one. In a line, clients are served in turn, and each client's requests.

This object lives on the event loop; only ``_step`` runs in a thread.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from services.gateway.errors import busy

ResultT = TypeVar("ResultT")
Pieces = Generator[None, None, ResultT]
"""Work that yields between its pieces."""

SHORT = 1 << 16
"""Bytes of a short text: about 16,000 tokens, 20 ms for a tokenizer of 3 MB/s."""

FULL_RETRY_S = 1.0


def one_piece(work: Callable[[], ResultT]) -> Pieces[ResultT]:
    """Work that can't be interrupted."""
    yield from ()
    return work()


def at_once(pieces: Pieces[ResultT]) -> ResultT:
    """All of it here, without a pause."""
    while True:
        try:
            next(pieces)
        except StopIteration as done:
            result: ResultT = done.value
            return result


@dataclass(slots=True, eq=False)
class _Job:
    """One request's work. client: whose it is. Any: only the caller knows what its work returns."""

    pieces: Pieces[Any]
    long: bool
    client: str
    result: "asyncio.Future[Any]"
    running: bool = False


@dataclass(slots=True)
class _Line:
    """Jobs that wait for a thread. Clients are in the order in which they are served next; none has an empty queue."""

    clients: dict[str, deque[_Job]] = field(default_factory=dict)

    def add(self, job: _Job) -> None:
        self.clients.setdefault(job.client, deque()).append(job)

    def take(self) -> _Job:
        """The next client's next job; that client is served last from now on."""
        client = next(iter(self.clients))
        jobs = self.clients.pop(client)
        job = jobs.popleft()
        if jobs:
            self.clients[client] = jobs
        return job

    def drop(self, job: _Job) -> None:
        jobs = self.clients.get(job.client)
        if jobs is not None and job in jobs:
            jobs.remove(job)
            if not jobs:
                del self.clients[job.client]


class TextThreads:
    """``threads`` of them. At most ``most_waiting`` requests wait or run, with ``most_bytes`` of text in all."""

    def __init__(self, threads: int, *, most_waiting: int, most_bytes: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="text")
        self._free = threads
        self._free_for_long = max(1, threads - 1)
        self._short = _Line()
        self._long = _Line()
        self._long_is_next = False
        self._most_waiting = most_waiting
        self._most_bytes = most_bytes
        self._closed = False
        self.waiting = 0
        self.waiting_bytes = 0

    async def run(self, pieces: Pieces[ResultT], *, size: int, client: str = "") -> ResultT:
        """What the pieces return or raise. size: bytes of the text.

        Raises ApiError (429) where too much waits already. What has not begun is dropped if the caller is cancelled.
        """
        self._admit(size)
        self.waiting += 1
        self.waiting_bytes += size
        job = _Job(pieces, size > SHORT, client, asyncio.get_running_loop().create_future())
        try:
            self._line(job).add(job)
            self._start_what_can()
            result: ResultT = await job.result
            return result
        finally:
            self.waiting -= 1
            self.waiting_bytes -= size
            self._line(job).drop(job)
            if not job.running:
                pieces.close()

    def close(self) -> None:
        """What runs goes on to the end of its piece; nothing else begins."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _admit(self, size: int) -> None:
        if self.waiting >= self._most_waiting:
            raise busy(f"This gateway is full: {self.waiting} texts wait to be read.", retry_after_s=FULL_RETRY_S)
        if self.waiting and self.waiting_bytes + size > self._most_bytes:
            told = f"{self.waiting_bytes} bytes of text wait to be read, and these are {size} more"
            raise busy(f"This gateway is full: {told}.", retry_after_s=FULL_RETRY_S)

    def _line(self, job: _Job) -> _Line:
        return self._long if job.long else self._short

    def _start_what_can(self) -> None:
        while self._free and not self._closed and (line := self._next_line()) is not None:
            job = line.take()
            self._long_is_next = not job.long
            self._free -= 1
            self._free_for_long -= job.long
            job.running = True
            done = asyncio.get_running_loop().run_in_executor(self._pool, _step, job.pieces)
            done.add_done_callback(partial(self._stepped, job))

    def _next_line(self) -> _Line | None:
        long_can = bool(self._long.clients) and self._free_for_long > 0
        if self._short.clients and not (long_can and self._long_is_next):
            return self._short
        return self._long if long_can else None

    def _stepped(self, job: _Job, done: "asyncio.Future[tuple[bool, Any]]") -> None:
        self._free += 1
        self._free_for_long += job.long
        job.running = False
        if done.cancelled():  # this pool was closed
            job.result.cancel()
        elif job.result.done():  # its caller has gone
            job.pieces.close()
        elif (error := done.exception()) is not None:
            job.result.set_exception(error)
        else:
            finished, value = done.result()
            if finished:
                job.result.set_result(value)
            else:
                self._line(job).add(job)
        self._start_what_can()


def _step(pieces: Pieces[Any]) -> tuple[bool, Any]:
    """One piece, in a thread: whether it was the last, and its result."""
    try:
        next(pieces)
    except StopIteration as done:
        return True, done.value
    return False, None
