"""When work that is still to come could begin, in a pool of prefill workers and in one of decode workers. Pure.

A prefill pool is filled like water: what comes goes to the shortest queue, so w seconds of work raise the lowest queues
to one level. A decode pool that is full loses one part in t_d of its sequences a second; counted in seconds of the
whole pool, a request takes t_d over the number of such requests that it holds.
"""

from dataclasses import dataclass
from math import inf, log

import numpy as np

from scheduler.table import Bools, Floats


class Levels:
    """queues: seconds of work before each worker of a pool, in any order; at least one."""

    def __init__(self, queues: Floats) -> None:
        queues = np.sort(queues)
        number = np.arange(1, len(queues) + 1)
        # What it takes to raise the first k queues to the level of the k-th.
        self._work = np.append(queues * number - np.cumsum(queues), inf)
        self._queues, self._slope = queues, 1.0 / number

    def after(self, work_s: Floats) -> Floats:
        """The shortest queue when so much work has come, for each of these amounts."""
        filled = np.searchsorted(self._work[1:], work_s, side="right")
        level: Floats = self._queues[filled] + (work_s - self._work[filled]) * self._slope[filled]
        return level


@dataclass(frozen=True, slots=True)
class Room:
    """Of a decode pool, for requests of one kind. free: by worker, how many more fit, negative where there are too many
    already; most: how many fit where there are no others. lasts_s: how long a decode lasts, t_d."""

    free: Floats
    most: Floats
    lasts_s: float

    @property
    def each_s(self) -> float:
        """Seconds of the pool that one request takes."""
        return self.lasts_s / max(1.0, float(self.most.sum()))

    @property
    def level_s(self) -> float:
        """When there is room for another one, less its own seconds: negative by as many as there is room for."""
        free = np.floor(np.maximum(self.free, 0.0) + 1e-9).sum()
        return -float(free) * self.each_s if free else self._first_s() - self.each_s

    def _first_s(self) -> float:
        """Until one worker has room: each sequence leaves with the same chance in every second."""
        used, left = self.most - self.free, self.most - 1.0
        able = left > 0.0
        if not able.any():
            return self.lasts_s
        ratio = float(np.min(used[able] / left[able]))
        return self.lasts_s * log(max(1.0, ratio))


def room(
    decoder: Bools,
    *,
    sequences: Floats,
    kv_tokens: Floats,
    seats: Floats,
    capacity: Floats,
    step_s: tuple[Floats, Floats, Floats],
    tokens: float,
    kv_needed: float,
    tpot_s: float,
    lasts_s: float,
) -> Room:
    """For requests of ``tokens`` of prompt that come to take ``kv_needed``, by seats, KV and a step of ``tpot_s``."""
    base, each, token = (part[decoder] for part in step_s)
    there, kv = sequences[decoder], kv_tokens[decoder]
    one_s = each + token * tokens
    with np.errstate(divide="ignore", invalid="ignore"):
        steps_free = np.where(one_s > 0.0, (tpot_s - base - each * there - token * kv) / one_s, inf)
        steps_most = np.where(one_s > 0.0, (tpot_s - base) / one_s, inf)
    free = np.minimum(seats[decoder] - there, np.minimum((capacity[decoder] - kv) / kv_needed, steps_free))
    most = np.minimum(seats[decoder], np.minimum(capacity[decoder] / kv_needed, steps_most))
    return Room(free, np.maximum(most, 0.0), lasts_s)
