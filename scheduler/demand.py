"""How much is asked of the prefill workers: what one second of work now costs those who come after.

A second more in a queue delays everybody who arrives before that queue is empty. With arrivals at a worker of
rate l, each keeping it busy a share r of the time in all, work w put behind a wait u delays the others by

    l / (1 - r) * w * (u + w / 2)

seconds together: the difference of the values l u^2 / (2 (1 - r)) of a first-come first-served queue with and
without it (Hyytia, Penttinen and Aalto, Size- and state-aware dispatching problem with queue-specific job sizes,
EJOR 217, 2012; there the first step of policy iteration, from a split by lot).

What comes to a worker is half what has come to it lately and half its even share: holders of hot prefixes are asked
more often, and each time for little, so long prompts go elsewhere.
"""

from math import exp2, log

import numpy as np

from scheduler.table import Bools, Floats

HALF_LIFE_S = 30.0
"""Of what was asked, as heat fades: bursts are shorter, and rates hold for minutes."""

SETTLED_S = 5.0
"""Before, a rate says nothing: what is asked in less counts as asked in so long."""

MOST_BUSY = 0.9
"""Share of a worker's time from which demand counts as this: what no queue could ever catch up with has no value."""

OWN = 0.5
"""How much of what comes to a worker is told by what came to it. With all of it some workers are left to short prompts
alone, and the long ones, all at the others, wait too long; with none of it a long prompt is put before a hundred short
ones as readily as before three."""


class Demand:
    """Asks, and the prefill seconds placed for them, fading; by row of the workers' table.

    A row that passes to another worker tells of the old one until that has faded.
    """

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._at_s = 0.0
        self._asks = 0.0
        self._placed = np.zeros((2, 0))  # asks and seconds, by row

    def asked(self, *, now: float) -> None:
        """Whether it is taken or not: who is refused comes back."""
        self._fade(now)
        self._asks += 1.0

    def placed(self, row: int, work_s: float, *, now: float) -> None:
        """At the worker of this row."""
        self._fade(now)
        self._reach(row + 1)
        self._placed[:, row] += (1.0, work_s)

    def pressure_per_s(self, workers: Bools, *, now: float) -> Floats:
        """l / (1 - r) of the module, at each of these workers; 0 elsewhere."""
        number = int(np.count_nonzero(workers))
        if self._since_s is None or not number:
            return np.zeros(len(workers))
        self._fade(now)
        self._reach(len(workers))
        asks, work_s = self._placed[:, : len(workers)]
        seen = 1.0 - exp2(-max(now - self._since_s, SETTLED_S) / HALF_LIFE_S)
        per_s = log(2.0) / HALF_LIFE_S / seen
        rate = per_s * _partly(asks, self._asks / number)
        busy = per_s * _partly(work_s, float(self._placed[1].sum()) / number)
        return np.where(workers, rate / (1.0 - np.minimum(MOST_BUSY, busy)), 0.0)

    def _reach(self, rows: int) -> None:
        """Have so many."""
        if rows > self._placed.shape[1]:
            self._placed = np.pad(self._placed, ((0, 0), (0, rows - self._placed.shape[1])))

    def _fade(self, now: float) -> None:
        if self._since_s is None:
            self._since_s = self._at_s = now
        kept = exp2(-max(0.0, now - self._at_s) / HALF_LIFE_S)
        self._at_s = max(self._at_s, now)
        self._asks *= kept
        self._placed *= kept


def _partly(own: Floats, even: float) -> Floats:
    mixed: Floats = OWN * own + (1.0 - OWN) * even
    return mixed
