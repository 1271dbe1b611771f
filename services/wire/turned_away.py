"""Which processes were turned away and why, in this process's log: the one that was says so in its own.

What is turned away is started again by its supervisor, and comes back with the same: so a line a minute, for each
process and reason.
"""

import logging
import time
from collections.abc import Callable

from services.runtime.logs import fields

AGAIN_S = 60.0

MOST = 256
"""Of which it is known when they were last said; beyond that the eldest are forgotten."""

log = logging.getLogger(__name__)


class TurnedAway:
    """Of one process's visitors."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}

    def say(self, process: str, reason: str) -> None:
        """process: by what name it came."""
        key, now = (process, reason), self._clock()
        if key in self._said and now < self._said[key] + AGAIN_S:
            return
        self._said.pop(key, None)
        self._said[key] = now
        if len(self._said) > MOST:
            self._said.pop(next(iter(self._said)))
        log.warning("turned a process away", extra=fields(process=process, reason=reason))
