"""A warning that may come for every block or connection: said at once, then at most once in a while with how often it
came.

That later line has the fields of the last occurrence and ``times``. What is counted is said even where no further
occurrence follows, so the sums of the lines are the sums of what happened.
"""

import asyncio
import logging

from services.runtime.logs import fields

EVERY_S = 60.0


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
