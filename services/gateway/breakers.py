"""Circuit breakers: workers that this gateway could not use lately, though conductors believe that they serve.

A worker reports to conductors by connections of its own, so it looks well while its certificate has the wrong name, or
another server listens at its address. A gateway that can't use it leaves it out of its asks (``Ask.excluded``) for a
while that doubles, then lets one request a second try. Conductors are not told to avoid it for others: a gateway whose
own certificate is at fault can use no worker at all, and would take the cluster from those that can.

Pure: facts and times go in.
"""

from dataclasses import dataclass, replace

from scheduler.vocabulary import WorkerId

FIRST_S, LONGEST_S = 1.0, 30.0
"""How long a worker is left out after the first failure, and at most."""

PROBE_S = 1.0
"""Between two requests that try it once that is over."""

MOST_REASONS = 8
"""That are news of one process before it has worked again: a stranger may say something else each time."""

FORGOTTEN_S = 120.0
"""After the last failure. It was not tried since, as others did the work; or it is gone."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """since, last: its first failure in a row, and the latest. until: when it is tried again. By the caller's clock.

    pause_s: for how long it was left out after the latest. reasons: all that were news.
    """

    worker: WorkerId
    because: str
    since: float
    last: float
    until: float
    pause_s: float
    reasons: frozenset[str]


class Breakers:
    """Those of one gateway."""

    def __init__(self) -> None:
        self._open: dict[WorkerId, Unusable] = {}

    def failed(self, worker: WorkerId, because: str, *, now: float) -> bool:
        """It could not be used; whether that is news: the first failure in a row for this reason."""
        known = self._open.get(worker)
        if known is None:
            self._open[worker] = Unusable(worker, because, now, now, now + FIRST_S, FIRST_S, frozenset({because}))
            return True
        was_placed_before = now < known.last + known.pause_s  # so it proves nothing new
        pause_s = known.pause_s if was_placed_before else min(2 * known.pause_s, LONGEST_S)
        news = because not in known.reasons and len(known.reasons) < MOST_REASONS
        reasons = known.reasons | {because} if news else known.reasons
        self._open[worker] = Unusable(worker, because, known.since, now, now + pause_s, pause_s, reasons)
        return news

    def worked(self, worker: WorkerId) -> bool:
        """It has answered as it should; whether that is news."""
        return self._open.pop(worker, None) is not None

    def left_out(self, *, now: float) -> frozenset[WorkerId]:
        """Workers that a new placement is to avoid; those due to be tried again are let through for this one."""
        self._forget(now)
        due = [known for known in self._open.values() if known.until <= now]
        for known in due:
            self._open[known.worker] = replace(known, until=now + PROBE_S)
        return frozenset(self._open) - {known.worker for known in due}

    def unusable(self, *, now: float) -> list[Unusable]:
        """For status pages, the longest first."""
        self._forget(now)
        return sorted(self._open.values(), key=lambda known: known.since)

    def _forget(self, now: float) -> None:
        for worker in [known.worker for known in self._open.values() if now - known.last > FORGOTTEN_S]:
            del self._open[worker]
