"""Fields that no server known here has: ignored, as vLLM does, and said once each in the log."""

import logging
from collections.abc import Iterable

from services.gateway.errors import shortened
from services.runtime.logs import fields

MOST_NAMES = 256

log = logging.getLogger(__name__)


class UnknownFields:
    """Names that have been said. After MOST_NAMES of them no more are, as a client may make them up."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def met(self, names: Iterable[str], path: str) -> None:
        """A request to ``path`` has fields of these names."""
        for name in names:
            if len(self.said) >= MOST_NAMES:
                return
            short = shortened(name)
            if short not in self.said:
                self.said.add(short)
                log.warning("a field of requests is unknown and ignored", extra=fields(field=short, path=path))
