"""Until when certificates are good, and what is said of that. Times are told, but for the reading of files.

A process whose certificate is out of its time is turned away by all others, with a word on their side only. So it
says so itself, before it serves; and while it runs, once before the end and once at it.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.runtime.process import Refusal

SOON = timedelta(days=7)
SHARE = 10
"""It ends soon within a week of its end, or within this part of its time where that is shorter."""

LOOK_S = 60.0
"""Between looks at the clock, which may be set, or have slept, meanwhile."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Validity:
    """What one file's certificates are good for. flag: by which it was given."""

    flag: str
    path: Path
    since: datetime
    until: datetime

    def trouble(self, now: datetime) -> str | None:
        """A sentence, where it is no good now."""
        what = f"{self.flag} {self.path}"
        if now >= self.until:
            return f"{what} has expired at {_shown(self.until)}: other processes turn this one away; renew it"
        if now < self.since:
            clock = f"this machine's clock says {_shown(now)}"
            return f"{what} is not valid before {_shown(self.since)}, and {clock}: set the clock, or wait"
        return None

    def ends_soon(self, now: datetime) -> str | None:
        """A sentence, where it will be no good before long."""
        if now < self.until - min(SOON, (self.until - self.since) / SHARE):
            return None
        then = "other processes turn this one away from then on; renew it, and start this process again"
        return f"{self.flag} {self.path} expires at {_shown(self.until)}: {then}"


def validity(flag: str, path: Path, *, any_of: bool = False) -> Validity:
    """Of a chain, all of whose certificates are needed; any_of: of authorities, of which one is enough.

    Raises Refusal where there is no certificate.
    """
    from cryptography import x509  # here, as it takes 50 ms, and most processes are given no certificates

    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Refusal(f"{flag} {path} has no certificate in PEM: {error}") from error
    since = [each.not_valid_before_utc for each in found]
    until = [each.not_valid_after_utc for each in found]
    if any_of:
        return Validity(flag, path, min(since), max(until))
    return Validity(flag, path, max(since), min(until))


def refuse_untimely(found: Sequence[Validity], now: datetime) -> None:
    """Raises Refusal where one of them is no good now."""
    for each in found:
        trouble = each.trouble(now)
        if trouble is not None:
            raise Refusal(trouble)


@dataclass(slots=True)
class Expiry:
    """Says each thing once. ``watch`` looks now and then for as long as its event loop runs."""

    found: Sequence[Validity]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    said: set[tuple[str, Path]] = field(default_factory=set)

    def look(self) -> None:
        now = self.clock()
        for each in self.found:
            self._say(logging.ERROR, "is no good", each, each.trouble(now))
            if now < each.until:
                self._say(logging.WARNING, "ends soon", each, each.ends_soon(now))

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """A timer of the loop's, which needs no owner and ends with it."""
        self.look()
        loop.call_later(LOOK_S, self.watch, loop)

    def _say(self, level: int, what: str, each: Validity, sentence: str | None) -> None:
        if sentence is not None and (what, each.path) not in self.said:
            self.said.add((what, each.path))
            log.log(level, sentence)


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
