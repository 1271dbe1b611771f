"""When an ended child is started again, and when that is pointless. Pure: it is told how long each life was.

The first restart is at once, since most deaths are single; after that the pause doubles,
so that a child that cannot live does not burn a core. A life long enough wipes the slate.
"""

from dataclasses import dataclass

PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0)
"""The pause before the first restart, the second ..; the last one stays."""

LONG_LIFE_S = 30.0
BAD_USAGE, REFUSED = 2, 78
"""Exit statuses that say: as configured, never (see services.runtime.process)."""

REFUSALS = 3
"""So often in a row before it is believed: the first may still have met a peer of the deployment before."""


@dataclass(frozen=True, slots=True)
class Restart:
    after_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    reason: str


@dataclass(slots=True)
class Backoff:
    """The restarts of one child."""

    deaths: int = 0
    refusals: int = 0

    def ended(self, status: int, *, lived_s: float) -> Restart | GiveUp:
        """What to do about an end that nobody asked for. status: an exit status, or minus a signal."""
        if lived_s >= LONG_LIFE_S:
            self.deaths = self.refusals = 0
        self.refusals = self.refusals + 1 if status in (BAD_USAGE, REFUSED) else 0
        if status == BAD_USAGE or self.refusals >= REFUSALS:
            return GiveUp(f"is refused as it is configured (exit status {status}); its own line above says why")
        pause_s = PAUSES_S[min(self.deaths, len(PAUSES_S) - 1)]
        self.deaths += 1
        return Restart(pause_s)
