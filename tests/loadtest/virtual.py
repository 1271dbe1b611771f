"""An event loop whose time is a number: it passes when nothing is left to do, to exactly where the next timer is due.

Sockets are real. Over Unix sockets a write is readable at once, so whatever is on its way arrives before time goes on.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
HANG_S = 10.0
"""Of real time without a timer or a byte."""


class _Selector(selectors.DefaultSelector):
    """Looks, and never waits while there is a timer."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if timeout is None:
            found = super().select(HANG_S)
            assert found, "everything waits for ever"
            return found
        self.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def leap(self, seconds: float) -> None:
        """Time passes at once, as for a process that was stopped."""
        self._virtual.now += seconds


def run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
