"""What a busy machine does to an event loop, on an idle one: ``pytest --jitter SEED``.

Readiness of files is told late and in any order, the loop is held up, and so are threads that begin a job of its
executor or are about to tell it something. A kernel may do all of this at any time, so nothing may depend on it.
What asyncio promises stays: callbacks run in the order in which they were scheduled, timers never early, and only
what a file is ready for at that moment is told.
"""

import asyncio
import os
import selectors
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextvars import Context
from random import Random
from typing import Any, TypeVar, TypeVarTuple

import pytest

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Events = list[tuple[selectors.SelectorKey, int]]

HELD_UP = 0.2
"""Of all news; what more there was to tell costs a test up to twice its time."""

SHORT_S, LONG_S, LONG = 0.002, 0.03, 0.03
"""A time slice of whoever else is ready, or, for every thirtieth, of several in a row."""


class Delays:
    """Draws how late something is."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def draw_s(self) -> float:
        if self._chance.random() > HELD_UP:
            return 0.0
        return self._chance.uniform(0.0, LONG_S if self._chance.random() < LONG else SHORT_S)

    def shuffle(self, events: Events) -> None:
        self._chance.shuffle(events)

    def hold_up(self) -> None:
        """Whichever thread calls it."""
        if late_s := self.draw_s():
            time.sleep(late_s)


class LateSelector(selectors.DefaultSelector):
    """Keeps news of a file to itself for a while. Asked again, a kernel tells it again as long as it is true."""

    def __init__(self, delays: Delays) -> None:
        super().__init__()
        self._delays = delays
        self._told_at: dict[int, float] = {}  # files that are ready, and from when on that is told

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:  # Any: a file or its number, as in typeshed
        key = super().unregister(fileobj)
        self._told_at.pop(key.fd, None)
        return key

    def select(self, timeout: float | None = None) -> Events:
        """May return nothing before the time is over, as when a signal comes."""
        if timeout is not None and timeout <= 0:
            self._delays.hold_up()
        news = super().select(timeout)
        told = self._due(news)
        if news and not told and (timeout is None or timeout > 0):
            first_s = min(self._told_at[key.fd] for key, _ in news) - time.monotonic()
            time.sleep(max(0.0, first_s if timeout is None else min(first_s, timeout)))
            told = self._due(super().select(0))
        self._delays.shuffle(told)
        return told

    def _due(self, news: Events) -> Events:
        now = time.monotonic()
        for key, _ in news:
            if key.fd not in self._told_at:
                self._told_at[key.fd] = now + self._delays.draw_s()
        due = [(key, ready) for key, ready in news if self._told_at[key.fd] <= now]
        for key, _ in due:
            del self._told_at[key.fd]
        return due


class LateLoop(asyncio.SelectorEventLoop):
    def __init__(self, delays: Delays) -> None:
        super().__init__(LateSelector(delays))
        self._delays = delays
        self._owner = threading.get_ident()

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if threading.get_ident() != self._owner:
            self._delays.hold_up()
        return super().call_soon_threadsafe(callback, *args, context=context)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        def late() -> T:
            self._delays.hold_up()
            return func(*args)

        return super().run_in_executor(executor, late)


class Jitter:
    """The plugin. The same test has the same draws, whatever runs before it; the machine adds its own."""

    def __init__(self, seed: str) -> None:
        self._seed = seed

    @pytest.hookimpl
    def pytest_asyncio_loop_factories(self) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
        return {"late": self._loop}

    def _loop(self) -> LateLoop:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        return LateLoop(Delays(Random(f"{self._seed} {test}")))
