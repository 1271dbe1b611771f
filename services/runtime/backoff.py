"""When an ended child is started again, and when that is pointless. Pure: it is told how long each life was.

The first restart is at once, since most deaths are single; after that the pause doubles,
so that a child that cannot live does not burn a core. A life long enough wipes the slate. One that was
never ready, in so many lives, will not be in the next. One that was ready once is started again for ever, even where
it says that it is refused as it is configured: what ails it came later, and may go.
"""

import signal
from collections.abc import Sequence
from dataclasses import dataclass

PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0)
"""The pause before the first restart, the second ..; the last one stays."""

LONG_LIFE_S = 30.0
BAD_USAGE, REFUSED = 2, 78
"""Exit statuses that say: as configured, never (see services.runtime.process)."""

REFUSALS = 3
"""So often in a row before it is believed: the first may still have met a peer of the deployment before."""

STILLBORN = 5
"""Lives without having been ready in any of them: with the pauses between them 3.5 s, and as long as they lasted."""


@dataclass(frozen=True, slots=True)
class Restart:
    after_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    reason: str


@dataclass(slots=True)
class Backoff:
    """The restarts of one child."""

    pauses_s: Sequence[float] = PAUSES_S
    deaths: int = 0
    refusals: int = 0
    lives: int = 0
    was_ready: bool = False

    def ended(
        self, status: int | None, *, lived_s: float, ready: bool = False, last_words: str = ""
    ) -> Restart | GiveUp:
        """What to do about an end that was not asked for.

        status: an exit status, or minus a signal; None: it could not even be started. ready: it had come as far as
        that. last_words: what it said of its end.
        """
        self.lives += 1
        self.was_ready = self.was_ready or ready
        if lived_s >= LONG_LIFE_S:
            self.deaths = self.refusals = 0
        self.refusals = self.refusals + 1 if status in (BAD_USAGE, REFUSED) else 0
        hopeless = None if self.was_ready else self._hopeless(status, last_words)
        if hopeless is not None:
            return GiveUp(hopeless)
        pause_s = self.pauses_s[min(self.deaths, len(self.pauses_s) - 1)]
        self.deaths += 1
        return Restart(pause_s)

    def _hopeless(self, status: int | None, last_words: str) -> str | None:
        """Why a child that was never ready will not be, where that is so."""
        if status == BAD_USAGE or self.refusals >= REFUSALS:
            why = f": {last_words}" if last_words else "; its own line above says why"
            return f"is refused as it is configured ({in_words(status)}){why}"
        if self.lives >= STILLBORN:
            why = f": {last_words}" if last_words else "; its own last lines above may say why"
            return f"was never ready: it has ended {self.lives} times, the last time with {in_words(status)}{why}"
        return None


def in_words(status: int | None) -> str:
    if status is None:
        return "not even a start"
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
