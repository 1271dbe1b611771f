"""How much is asked of the prefill workers: what one second of work now costs those who come after.

A second more in a queue delays everybody who arrives before that queue is empty. With arrivals at a worker of
rate l, each keeping it busy a share r of the time in all, work w put behind a wait u delays the others by

    l / (1 - r) * w * (u + w / 2)

seconds together: the difference of the values l u^2 / (2 (1 - r)) of a first-come first-served queue with and
without it (Hyytia, Penttinen and Aalto, Size- and state-aware dispatching problem with queue-specific job sizes,
EJOR 217, 2012; there the first step of policy iteration, from a split by lot).
"""

from math import exp2, log

HALF_LIFE_S = 30.0
"""Of what was asked, as heat fades: bursts are shorter, and rates hold for minutes."""

SETTLED_S = 5.0
"""Before, a rate says nothing: what is asked in less counts as asked in so long."""

MOST_BUSY = 0.9
"""Share of a worker's time from which demand counts as this: what no queue could ever catch up with has no value."""


class Demand:
    """Asks, and the prefill seconds placed for them, fading."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._at_s = 0.0
        self._asks = 0.0
        self._work_s = 0.0

    def asked(self, *, now: float) -> None:
        self._fade(now)
        self._asks += 1.0

    def placed(self, work_s: float, *, now: float) -> None:
        self._fade(now)
        self._work_s += work_s

    def pressure_per_s(self, workers: int, *, now: float) -> float:
        """l / (1 - r) of the module, shared evenly by so many workers."""
        if self._since_s is None or not workers:
            return 0.0
        self._fade(now)
        seen = 1.0 - exp2(-max(now - self._since_s, SETTLED_S) / HALF_LIFE_S)
        per_s = log(2.0) / HALF_LIFE_S / seen / workers
        return self._asks * per_s / (1.0 - min(MOST_BUSY, self._work_s * per_s))

    def _fade(self, now: float) -> None:
        if self._since_s is None:
            self._since_s = self._at_s = now
        kept = exp2(-max(0.0, now - self._at_s) / HALF_LIFE_S)
        self._at_s = max(self._at_s, now)
        self._asks, self._work_s = self._asks * kept, self._work_s * kept
