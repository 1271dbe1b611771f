"""Lines that the conductor's process writes: a role without workers, a worker that changes its role."""

import logging
import time
from collections.abc import Callable

from scheduler.conductor import Conductor

log = logging.getLogger(__name__)

STARTING_S = 30.0
"""Workers of one deployment load their models for unlike times; until then a role that nobody fills is coming."""


class Notices:
    """``look`` now and then: each thing is said once, when it begins and when it is over."""

    def __init__(
        self, conductor: Conductor, *, elastic: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._conductor = conductor
        self._elastic = elastic
        self._clock = clock
        self._started_s = clock() + STARTING_S
        self._degraded: str | None = None
        self._advices = 0

    def look(self) -> None:
        self._look_at_roles()
        if self._clock() < self._started_s:
            return
        before, self._degraded = self._degraded, self._conductor.degraded
        if self._degraded == before:
            return
        if self._degraded is None:
            log.info("no longer degraded")
        else:
            log.warning("degraded: %s", self._degraded)

    def _look_at_roles(self) -> None:
        advices, why = self._conductor.role_advice
        if advices != self._advices:
            self._advices = advices
            log.info(why if self._elastic else f"with --elastic: {why}")
