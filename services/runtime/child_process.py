"""A started process and its end, for an event loop.

asyncio's own, of Python 3.11, needs a thread for each child; where none can be had, at a limit on processes, it forgets
one that it has started. Here nothing is needed after the fork but a descriptor, and without that we look now and then.
"""

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence

LOOK_S = 0.05
"""How late an end is noticed where the kernel has no descriptors for processes, or we have none left."""


class ChildProcess:
    """Made by ``start``."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._ended = asyncio.create_task(self._watch(), name=f"process {process.pid}")

    @classmethod
    def start(
        cls, command: Sequence[str], *, variables: Mapping[str, str], output: int, inherits: Sequence[int]
    ) -> "ChildProcess":
        """In a process group of its own, without input. output: a descriptor for all it writes. Raises OSError."""
        return cls(
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=variables,
                pass_fds=inherits,
                process_group=0,
            )
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    async def wait(self) -> int:
        """Its exit status, or minus the signal that ended it. Any number of tasks may wait."""
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """Ask it to end; does nothing where it has ended."""
        self._process.terminate()

    def kill(self) -> None:
        """Does nothing where it has ended."""
        self._process.kill()

    async def _watch(self) -> int:
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            while self.lives:  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(LOOK_S)
        else:
            await _readable(descriptor)
        return self._process.wait()


async def _readable(descriptor: int) -> None:
    """Returns once it is, and closes it."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
