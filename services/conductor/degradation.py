"""One line when a role has lost its last worker and the other does its work, and one when that is over."""

import logging

from scheduler.conductor import Conductor

log = logging.getLogger(__name__)


class Degradation:
    """``look`` now and then."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor
        self._reason: str | None = None

    def look(self) -> None:
        before, self._reason = self._reason, self._conductor.degraded
        if self._reason == before:
            return
        if self._reason is None:
            log.info("no longer degraded")
        else:
            log.warning("degraded: %s", self._reason)
