"""A warning that may come for every block or connection: said at once, then at most once in a while with how often it
came.

That later line has the fields of the last occurrence and ``times``. What is counted is said even where no further
occurrence follows, so the sums of the lines are the sums of what happened.
"""

import asyncio
import logging

from services.runtime.logs import fields

EVERY_S = 60.0

MOST = 256
"""Kinds and subjects that one ``RepeatedBy`` knows; beyond that the eldest are forgotten."""


class Repeated:
    """One kind of warning of one process. Made and told in a running loop."""

    def __init__(
        self, log: logging.Logger, message: str, *, level: int = logging.WARNING, every_s: float = EVERY_S
    ) -> None:
        self._log, self._message, self._level, self._every_s = log, message, level, every_s
        self._last: dict[str, object] = {}
        self._times = 0
        self._silence: asyncio.TimerHandle | None = None

    def say(self, **values: object) -> None:
        """It has happened once more. Never waits."""
        self._last, self._times = values, self._times + 1
        if self._silence is None:
            self._speak()

    def _speak(self) -> None:
        times = self._times if self._times > 1 else None
        self._log.log(self._level, self._message, extra=fields(**self._last, times=times))
        self._times = 0
        self._silence = asyncio.get_running_loop().call_later(self._every_s, self._silence_over)

    def _silence_over(self) -> None:
        self._silence = None
        if self._times:
            self._speak()


class RepeatedBy:
    """Warnings of several kinds and subjects, such as a peer and a reason, each of them ``Repeated`` for itself."""

    def __init__(self, log: logging.Logger, *, every_s: float = EVERY_S) -> None:
        self._log, self._every_s = log, every_s
        self._known: dict[tuple[str, ...], Repeated] = {}

    def say(self, message: str, *subject: str, level: int = logging.WARNING, **values: object) -> None:
        """It has happened once more to this subject. Never waits."""
        key = (message, *subject)
        if key not in self._known:
            if len(self._known) >= MOST:
                self._known.pop(next(iter(self._known)))  # what it has counted is still said
            self._known[key] = Repeated(self._log, message, level=level, every_s=self._every_s)
        self._known[key].say(**values)
