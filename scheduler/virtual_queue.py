"""Whether a request goes before those that were told to come back, and when one that is refused is to come back itself.

Both follow from the same sums: the work that is there, and that of the turns before it (``scheduler.turns``). A turn is
due when that work is down to ``COMES`` of what may be before it, so that it is taken although predictions are a
little off; the queue that it then finds is long enough that nothing stands idle. A request that comes before its turn
is taken where every turn before it holds all the same: because others did not come, or work took less than predicted.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from scheduler.turns import Line, Turn, Turns, Wanted
from scheduler.vocabulary import Ask
from scheduler.waits import Levels, Room

COMES = 0.5
"""Of the queue that a request may find before it, what is there when its turn comes."""

FILLED = 0.8
"""Likewise, as far as newcomers may fill it before that."""

STRETCHED = 1.15
"""What is told over what is predicted: machines on which a crowd has come are slower than they were measured, and one
that is not has a queue to live on meanwhile."""

UNEVEN = 0.25
"""Of the time that a decode lasts: those that began together and answer at equal length leave together."""

EVEN = 0.5
"""The share of turns taken below which nothing is kept for them: what stands empty for others is lost."""

NEARLY_S = 1e-6


@dataclass(frozen=True, slots=True)
class Need:
    """What a request asks of both pools, in seconds as they really pass. work_s: of its prefill; queue_s: what may be
    before that; prefills: the queues that are there. decodes: None where the decode pool is not looked at."""

    work_s: float
    queue_s: float
    prefills: Levels
    decodes: Room | None

    @property
    def decode_s(self) -> float:
        return 0.0 if self.decodes is None else self.decodes.each_s


class VirtualQueue:
    """Of one conductor; it forgets with it."""

    def __init__(self) -> None:
        self._turns = Turns()

    def __len__(self) -> int:
        return len(self._turns)

    def turn(self, ask: Ask, *, now: float) -> Turn | None:
        """That this request has come for."""
        if not len(self._turns):
            return None
        self._turns.expire(now=now)
        return self._turns.of(ask, now=now)

    def before(self, ask: Ask, turn: Turn | None, need: Need, *, rank: int, now: float) -> int:
        """How many turns it would take something from if it were served now; 0: it may be."""
        if not len(self._turns):
            return 0
        comes = turn is not None and turn.is_due(now)  # after its like it has waited long enough
        line = self._turns.line(rank - 1) if comes else self._turns.line(rank, before=turn)
        return 0 if _holds(line, need, self._turns.shows, now) else len(line)

    def taken(self, turn: Turn | None) -> None:
        if turn is not None:
            self._turns.taken(turn)

    def tell(self, ask: Ask, turn: Turn | None, need: Need, *, rank: int, now: float) -> float:
        """In how many seconds this one, which is refused, is to come back."""
        line = self._turns.line(rank, before=turn)
        ahead_s = float(line.prefill_s.sum())
        queue_s = max(0.0, need.queue_s)
        level_s = float(need.prefills.after(np.array([ahead_s]))[0])
        due_s = max(now + STRETCHED * (level_s - COMES * queue_s), line.latest_s, now)
        margin_s = 0.0
        if need.decodes is not None:
            # As many as are before it leave in the mean; but it takes that many give or take the root.
            margin_s = need.decode_s * sqrt(1.0 + np.count_nonzero(line.decode_s))
            decoded_s = need.decodes.level_s + float(line.decode_s.sum()) + need.decode_s
            if decoded_s > 0.0:
                margin_s += (STRETCHED - 1.0) * decoded_s + UNEVEN * need.decodes.lasts_s
            due_s = max(due_s, now + decoded_s + margin_s)
        wanted = Wanted(need.work_s, due_s + FILLED * queue_s, need.decode_s, due_s - margin_s)
        return self._turns.tell(ask, wanted, rank=rank, due_s=due_s, turn=turn, now=now)


def _holds(line: Line, need: Need, shows: float, now: float) -> bool:
    """Whether it and every turn before it are in time if it is served now. shows: the share of turns that is taken."""
    if shows < EVEN:
        return True
    due = line.due_s <= now
    later = ~due
    owed_s, before_s = shows * line.prefill_s, shows * (np.cumsum(line.prefill_s) - line.prefill_s)
    own_s, others_s = need.prefills.after(np.array([owed_s[due].sum()])), need.prefills.after(before_s + need.work_s)
    if own_s[0] > need.queue_s or np.any(now + others_s[later] > line.prefill_by_s[later] + NEARLY_S):
        return False
    if need.decodes is None:
        return True
    level_s, seats_s = need.decodes.level_s + need.decode_s, shows * line.decode_s
    decoded_s = now + level_s + np.cumsum(seats_s)
    return not (
        level_s + seats_s[due].sum() > NEARLY_S or np.any(decoded_s[later] > line.decode_by_s[later] + NEARLY_S)
    )
