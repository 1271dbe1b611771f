"""Standard output and error that can neither end nor stall a process.

A reader may leave (a pipe), stop reading (a pager, a terminal that is paused), or be a full disk or a closed
terminal. So a thread of its own writes: ``Outlet.put`` queues and returns. What finds the queue full, or
can't be written, is dropped and counted, and the count is written as soon as writing works again.

    sys.stderr.write -> TextIOWrapper -> Outlet.put -> queue (MOST_BYTES) -> thread -> descriptor
"""

import atexit
import io
import os
import select
import signal
import stat
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

from services.runtime.logs import dropped_line

if TYPE_CHECKING:  # this name exists for type checkers only
    from _typeshed import ReadableBuffer

MOST_BYTES = 1 << 20
"""Queued for one reader: some 8,000 lines, minutes of a deployment's log."""

FULL = "what reads this output does not keep up"

AT_EXIT_S = 1.0
"""For the last lines of a process to be read; a reader that reads takes them in microseconds."""

AGAIN_S = 0.01
"""Before another attempt where a descriptor is said to take bytes and takes none."""


class Outlet:
    """Writes to ``descriptor``, in order, from a thread that begins with the first ``put``."""

    def __init__(self, descriptor: int, *, most_bytes: int = MOST_BYTES) -> None:
        self.descriptor = descriptor
        self.dropped = 0
        """Lines, in all."""
        self._most_bytes = most_bytes
        self._changed = threading.Condition()  # reentrant: a finalizer may log in the middle of ``put``
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._busy = False
        self._thread: threading.Thread | None = None
        self._ending = False
        self._refused = 0
        """Lines that the queue had no room for, since it was last empty."""
        self._unsaid = 0
        """Lines that are missing before the next one, and why."""
        self._why = FULL
        self._torn = False
        """A line was cut off by an error."""

    def put(self, chunk: bytes) -> None:
        """Never waits, never fails. Any thread may."""
        with self._changed:
            if self._ending:
                self._write_now(chunk)
            elif self._refused or self._queued_bytes + len(chunk) > self._most_bytes:
                # Until all that is queued has been written, so that the count stands where the lines are missing.
                self._refused += _lines(chunk)
                self.dropped += _lines(chunk)
            else:
                self._queue.append(chunk)
                self._queued_bytes += len(chunk)
                self._changed.notify_all()
                if self._thread is None:
                    self._start()

    def flush(self, within_s: float) -> bool:
        """Wait until all is written or dropped; whether it was, in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy and not self._queue, within_s)

    def end(self, within_s: float = AT_EXIT_S) -> None:
        """The last lines, before threads can't run any more; what comes later is written where that can't wait."""
        self.flush(within_s)
        with self._changed:
            self._ending = True

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"output {self.descriptor}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread can be had now; the next line tries again
            self._thread = None

    def _run(self) -> None:
        while True:
            self._write(self._next())

    def _next(self) -> bytes:
        """The next chunk; an empty one where only the count of dropped lines is to be said."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._queue or self._refused)
            self._busy = True
            if not self._queue:
                self._unsaid, self._refused, self._why = self._unsaid + self._refused, 0, FULL
                return b""
            chunk = self._queue.popleft()
            self._queued_bytes -= len(chunk)
            return chunk

    def _write(self, chunk: bytes) -> None:
        """It, after the count of what is missing before it."""
        said = self._unsaid
        try:
            if said:
                self._whole(dropped_line(said, self._why).encode())
                with self._changed:
                    self._unsaid -= said
            self._whole(chunk)
        except OSError as error:
            self._drop(chunk, error.strerror or str(error))

    def _whole(self, part: bytes) -> None:
        """Raises OSError; what comes next then begins on a line of its own."""
        part = b"\n" + part if self._torn and part else part
        written = 0
        try:
            while written < len(part):
                written += self._some(part[written:])
        finally:
            self._torn = (self._torn and not written) or 0 < written < len(part)

    def _some(self, part: bytes) -> int:
        """How much of it could be written. Waits, where the descriptor does not, until it takes more."""
        try:
            return os.write(self.descriptor, part)
        except BlockingIOError:
            poll = select.poll()
            poll.register(self.descriptor, select.POLLOUT)
            poll.poll()
        try:
            return os.write(self.descriptor, part)
        except BlockingIOError:
            threading.Event().wait(AGAIN_S)
            return 0

    def _write_now(self, chunk: bytes) -> None:
        poll = select.poll()
        poll.register(self.descriptor, select.POLLOUT)
        try:
            if not self._busy and poll.poll(0):
                os.write(self.descriptor, chunk[: select.PIPE_BUF])
        except OSError as error:
            self._drop(chunk, error.strerror or str(error))

    def _drop(self, chunk: bytes, why: str) -> None:
        with self._changed:
            self.dropped += _lines(chunk)
            self._unsaid += _lines(chunk)
            self._why = why


def _lines(chunk: bytes) -> int:
    """What is no whole line counts as one."""
    return max(1, chunk.count(b"\n")) if chunk else 0


class _Raw(io.RawIOBase):
    """An outlet as a file."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet

    def write(self, data: "ReadableBuffer", /) -> int:
        chunk = bytes(data)
        self._outlet.put(chunk)
        return len(chunk)

    def writable(self) -> bool:
        return True

    @property
    def name(self) -> str:
        """As a file has one."""
        return f"<output {self._outlet.descriptor}>"

    def fileno(self) -> int:
        return self._outlet.descriptor

    def isatty(self) -> bool:
        return os.isatty(self._outlet.descriptor)


def text_stream(outlet: Outlet) -> io.TextIOWrapper:
    """Whole lines go to the outlet at once, the rest when flushed."""
    raw = _Raw(outlet)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def guard_output(*, serves: bool) -> None:
    """Have this process go on whatever becomes of its output; to be called once, before anything else is opened.

    serves: its purpose is not its output, so standard output is guarded as standard error is, in native code too.
    """
    fill_standard_descriptors()
    sys.stderr = text_stream(Outlet(2))
    if serves:
        for each in (signal.SIGTTOU, signal.SIGTTIN):  # by which a terminal stops jobs in its background
            signal.signal(each, signal.SIG_IGN)
        for descriptor in (1, 2):
            never_wait(descriptor)
        sys.stdout = text_stream(Outlet(1))

    def forked() -> None:  # the threads are the parent's
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__

    os.register_at_fork(after_in_child=forked)
    atexit.register(end_output)


def end_output(within_s: float = AT_EXIT_S) -> None:
    """Have what was written so far read, for as long as that; then threads may end."""
    for stream in (sys.stdout, sys.stderr):
        raw = getattr(stream, "buffer", None)
        if isinstance(raw, _Raw):
            stream.flush()
            raw._outlet.end(within_s)


def discard_stdout() -> None:
    """What is still to be written to it is of no use to anything."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)


def fill_standard_descriptors() -> None:
    """Open what of 0, 1 and 2 was closed when we began: else the next file opened would be written to by print."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest that is free, so this one
            os.set_inheritable(opened, True)
    if sys.stdout is None:
        sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # type: ignore[misc]  # noqa: SIM115 - the process's
    if sys.stderr is None:
        sys.stderr = sys.__stderr__ = open(2, "w", closefd=False)  # type: ignore[misc]  # noqa: SIM115 - the process's


def never_wait(descriptor: int) -> None:
    """Have writes to a pipe or terminal fail where they would wait, native code's too, for this process alone.

    O_NONBLOCK belongs to what was opened, which others share (a shell, ``tee``); so it is opened once more.
    """
    kind = os.fstat(descriptor).st_mode
    if not (stat.S_ISFIFO(kind) or os.isatty(descriptor)) or not os.get_blocking(descriptor):
        return
    try:
        again = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # another user's, or without a reader: then only the outlet's thread waits for it
        return
    os.dup2(again, descriptor, inheritable=True)
    os.close(again)
