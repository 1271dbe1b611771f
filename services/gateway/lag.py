"""How late this process's event loop runs: what a request may have waited before anything here could see it.

A crowd's connections lie in the kernel while the loop is busy with those before them. No time stamps of theirs reach an
ASGI app, so the loop's own delay stands for it: that of a timer that should have fired every ``BEAT_S``.
"""

import asyncio

BEAT_S = 0.02


class Lag:
    """``run`` it beside whatever is to be measured."""

    def __init__(self) -> None:
        self._due: float | None = None
        self._late_s = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            self._due = clock() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self._late_s = clock() - self._due

    def seconds(self, *, now: float) -> float:
        """Of the last beat, or of the one that is due; 0 before there was one."""
        overdue_s = 0.0 if self._due is None else now - self._due
        return max(0.0, self._late_s, overdue_s)
