"""A handoff's blocks on their way to the decode worker's store, while they are being written.

The store sends; the worker only says what is complete. The model thread tells each layer by
raising a number, and wakes the event loop only if it is not awake yet, and not too often:
when layers come faster than messages go, one message tells several.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from kvstore.names import BlockName
from kvstore.vocabulary import SlotRef
from scheduler.vocabulary import StoreTarget
from services.worker.store_session import StoreAway, StoreSession

PUSHED_S = 1.0
"""How long a first token waits for the other store's word. Without it the decode worker fetches, or computes."""

GAP_S = 0.002
"""Between two wakings. Each costs the model thread 20 to 40 us on the reference machine: a system call, and the
interpreter's lock while the loop runs. Layers of a real model on its CPU take longer than this; on a GPU they don't."""


class Push:
    """Asked for when this is made; kept by the other store until ``close`` or the session's end."""

    def __init__(
        self, session: StoreSession, target: StoreTarget, names: Sequence[BlockName], *, last_is_short: bool
    ) -> None:
        self._session = session
        self._closed = False
        self._call = session.push(target, names, last_is_short=last_is_short)

    async def answered(self, within_s: float = PUSHED_S) -> bool:
        """Whether the other store has said what it takes; False where that is not known in time."""
        with suppress(StoreAway, TimeoutError):
            async with asyncio.timeout(within_s):
                await asyncio.shield(self._call.done)
                return True
        return False

    def close(self) -> None:
        """The handoff is over; what the other store has kept leased for it is let go. Idempotent."""
        if not self._closed:
            self._closed = True
            self._session.push_end(self._call)


class WrittenLayers:
    """Tell stores which layers of these slots, which are pushed, a step has written so far; sealing tells the rest."""

    def __init__(
        self,
        slots: Mapping[StoreSession, Sequence[SlotRef]],
        *,
        gap_s: float = GAP_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._gap_s = gap_s
        self._clock = clock
        self._next_s = clock()  # the earliest time of the next waking
        self._loop = asyncio.get_running_loop()
        self._written = 0  # raised by the model thread
        self._told = 0
        self._waking = False

    def lowered(self, layer: int) -> None:
        """The model thread's: this layer of all slots is complete, and so are those before it."""
        self._written = layer + 1
        now = self._clock()
        if now >= self._next_s and not self._waking:
            self._waking, self._next_s = True, now + self._gap_s
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._waking = False  # before looking: whatever is raised after the look wakes again
        written = self._written
        for session, refs in self._slots.items():
            session.wrote(refs, self._told, written - self._told)
        self._told = written
