"""Blocks on their way between a store's arena and its SSD file, in threads: begun, under way, ended.

Several at a time, a lane each way, and never in the event loop. A disk that ends nothing for long hangs; what that
and every error mean is for whoever asked for the moves to say.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from kvstore.arena import Arena
from kvstore.layout import KvLayout
from kvstore.ssd import SsdFile
from kvstore.vocabulary import Demote, Promote
from services.store.busy import Busy
from services.store.io_threads import IoThreads, Lane

READERS = 4
WRITERS = 4
"""Requests at a time, each way: two keep a fast disk busy with blocks of 1 MiB, small ones want more."""

BATCH = 8
"""Writes that the event loop is told of together, half of those under way: a quarter less work for each."""

HANG_S = 10.0
"""A disk that ends nothing for so long is as good as gone: thousands of times what a request takes."""

READ = "ssd-read"
WRITE = "ssd-write"
"""A lane for each: whoever waits for a block does not wait for what is written behind."""

SsdMove = Demote | Promote

Moved = tuple[bool, float]
"""Whether the block is intact, and the seconds it took."""


class SsdMoves:
    """To and from an open file, which is another's to close. reading: told of every read."""

    def __init__(
        self, file: SsdFile, arena: Arena, layout: KvLayout, *, reading: Busy, clock: Callable[[], float]
    ) -> None:
        self._file, self._arena, self._layout, self._reading, self._clock = file, arena, layout, reading, clock
        self._threads: IoThreads[SsdMove, Moved] = IoThreads(
            {READ: Lane(READERS), WRITE: Lane(WRITERS, BATCH)}, self._move
        )
        self.under_way = 0
        self._progress_at = 0.0

    def begin(self, move: SsdMove) -> None:
        if not self.under_way:
            self._progress_at = self._clock()
        self.under_way += 1
        self._threads.submit(READ if isinstance(move, Promote) else WRITE, move)

    async def ended(self) -> list[tuple[SsdMove, Moved | Exception]]:
        """One or more; nothing where that takes so long that somebody should look whether it ``hangs``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HANG_S):
                over = await self._threads.ended()
                self._progress_at = self._clock()
                self.under_way -= len(over)
                return over
        return []

    @property
    def hangs(self) -> bool:
        return self.under_way > 0 and self._clock() - self._progress_at >= HANG_S

    def close(self) -> None:
        """Waits for the requests that the disk has."""
        self._threads.close()

    def _move(self, move: SsdMove) -> Moved:
        """In a thread."""
        start = time.perf_counter()
        match move:
            case Demote():
                with self._slot(move.source.slot) as payload:
                    self._file.write(move.target.slot, move.name, move.checksum, move.tokens, payload)
                intact = True
            case Promote():
                with self._slot(move.target.slot) as target, self._reading.request(self._layout.block_bytes):
                    intact = self._file.read(move.source.slot, move.name, move.checksum, target)
        return intact, time.perf_counter() - start

    def _slot(self, slot: int) -> memoryview:
        size = self._layout.slot_bytes
        return self._arena.view[slot * size : (slot + 1) * size]
