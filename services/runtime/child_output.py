"""What one life of a child writes, passed on by its supervisor line by line.

The child writes into a pipe of its own and never waits for it. So a terminal that is paused, or a supervisor that is
stopped, stalls no child; and what native code says when it dies is passed on, too.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable

READ_BYTES = 65_536
LONGEST_LINE = 65_536
"""Bytes; what is longer is passed on in pieces."""


class ChildOutput:
    """Hand ``writer`` to the child, say ``started``, and ``close`` when its life is over. pass_on: whole lines."""

    def __init__(self, pass_on: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._pass_on = pass_on
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._begun = b""
        self._loop.add_reader(self._reader, self._read)

    def started(self) -> None:
        """The child has its end now."""
        os.close(self.writer)
        self.writer = -1

    def close(self) -> None:
        """What it has written by now is passed on; what its own children may write later is not."""
        self._loop.remove_reader(self._reader)
        if self.writer >= 0:
            self.started()
        with contextlib.suppress(BlockingIOError):
            while heard := os.read(self._reader, READ_BYTES):
                self._hear(heard)
        if self._begun:
            self._pass_on(self._begun + b"\n")
        os.close(self._reader)

    def _read(self) -> None:
        try:
            heard = os.read(self._reader, READ_BYTES)
        except BlockingIOError:
            return
        if heard:
            self._hear(heard)
        else:
            self._loop.remove_reader(self._reader)

    def _hear(self, heard: bytes) -> None:
        lines, newline, self._begun = (self._begun + heard).rpartition(b"\n")
        if newline:
            self._pass_on(lines + newline)
        if len(self._begun) > LONGEST_LINE:
            begun, self._begun = self._begun, b""
            self._pass_on(begun + b"\n")
