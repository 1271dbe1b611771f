"""When the decodes that were placed will begin, and how long decodes last: the batches of the near future.

Mooncake drops decodes from its prediction once they are older than one uniform duration t_d (arXiv
2407.00079, section 7.3). Output lengths are far from uniform: of those that run now, many are older than the
mean, and are still there. Here a running decode leaves with the same chance in every second, 1 / t_d, and t_d is
learned from requests that finish.
"""

from dataclasses import dataclass
from math import exp

import numpy as np

from scheduler.table import NOBODY, Bools, Floats, Table
from scheduler.vocabulary import RequestId

FLIGHT = np.dtype([("worker", "i8"), ("begins_s", "f8"), ("tokens", "f8"), ("outputs", "f8"), ("told", "?")])
NO_FLIGHT = (NOBODY, -np.inf, 0.0, 0.0, False)

EXPECTED_OUTPUT_TOKENS = 343
"""Mean output length of the public conversation trace: for how long a decode lasts until that is known; and it weighs
TPOT against TTFT where one worker does both."""

PRIOR_SAMPLES = 20.0
"""Finished requests that weigh as much as what was assumed before there were any."""

MEMORY = 0.999
"""What a sample still counts after another: the last thousand or so."""

PARTS = (0.0, 0.25, 0.5, 1.0)
"""Moments of a decode, in its expected duration, at which its batch is looked at."""

LOST_S = 600.0
"""A decode that began so long ago, and of which nobody has told the end, has been forgotten by its gateway."""


@dataclass(frozen=True, slots=True)
class Batches:
    """By row of the workers' table: sequences and KV tokens that each decode worker is predicted to have at a time."""

    sequences: Floats
    kv_tokens: Floats


class Flights:
    """Requests from their placement to their end. assumed_s: how long a decode lasts, until that is known."""

    def __init__(self) -> None:
        self._table: Table[RequestId] = Table(FLIGHT, NO_FLIGHT)
        self._finished, self._lasted_s = 0.0, 0.0

    def placed(
        self, request: RequestId, worker: int, tokens: int, *, begins_s: float, told: bool, outputs: int = 0
    ) -> None:
        """worker: its row. told: whether somebody will tell when it begins; else it has when its time has come.
        outputs: tokens that it is expected to generate."""
        row = self._table.add(request)
        self._table.rows[row] = (worker, begins_s, tokens, outputs, told)

    def worker(self, request: RequestId) -> int:
        """The row of the worker that decodes it; NOBODY where that is not known."""
        row = self._table.row(request)
        return NOBODY if row == NOBODY else int(self._table.rows["worker"][row])

    def outputs(self, request: RequestId) -> float:
        """Tokens that it is expected to generate; 0 where it is not known."""
        row = self._table.row(request)
        return 0.0 if row == NOBODY else float(self._table.rows["outputs"][row])

    def begun(self, request: RequestId, *, now: float) -> None:
        row = self._table.row(request)
        if row != NOBODY:
            self._table.rows["begins_s"][row], self._table.rows["told"][row] = now, False

    def ended(self, request: RequestId, *, finished: bool, now: float) -> None:
        """finished: by itself, so that it says something of how long decodes last."""
        row = self._table.row(request)
        if row == NOBODY:
            return
        lasted_s = now - float(self._table.rows["begins_s"][row])
        if finished and lasted_s > 0.0:
            self._finished = MEMORY * self._finished + 1.0
            self._lasted_s = MEMORY * self._lasted_s + lasted_s
        self._table.remove(request)

    def worker_left(self, worker: int) -> None:
        for row in np.flatnonzero(self._table.rows["worker"] == worker):
            request = self._table.keys[row] if row < len(self._table.keys) else None
            if request is not None:
                self._table.remove(request)

    def expire(self, *, now: float) -> None:
        for row in np.flatnonzero(self._table.rows["begins_s"][: len(self._table.keys)] < now - LOST_S):
            request = self._table.keys[row]
            if request is not None:
                self._table.remove(request)

    def lasts_s(self, assumed_s: float, *, now: float) -> float:
        """t_d: seconds that decodes have lasted, over those that finished; and PRIOR_SAMPLES of ``assumed_s``.

        Those that still run count with what they have lasted so far: who looked at the finished ones alone would see
        only short ones at first.
        """
        begins_s = self._table.column("begins_s")
        runs = (begins_s <= now) & (begins_s > -np.inf) & ~self._table.column("told")
        running_s = float(np.sum(now - begins_s, where=runs))
        return (self._lasted_s + running_s + PRIOR_SAMPLES * assumed_s) / (self._finished + PRIOR_SAMPLES)

    def batches(self, sequences: Floats, kv_tokens: Floats, *, at_s: float, lasts_s: float, now: float) -> Batches:
        """What all that is promised (sequences and KV tokens, by worker) comes to at a time from now on.

        Those that decode now and those that begin until then leave by and by; those that begin later are not there.
        Whose prefill takes longer than was predicted has not begun, and may at any moment.
        """
        worker, begins_s = self._table.column("worker"), self._table.column("begins_s")
        tokens, rows = self._table.column("tokens"), len(sequences)
        coming = (worker != NOBODY) & ((begins_s > now) | self._table.column("told"))
        begun = (worker != NOBODY) & ~coming
        since_s = np.where(coming, at_s - np.maximum(begins_s, now), 0.0)
        there = np.where(coming & (since_s > 0.0), np.exp(-np.maximum(0.0, since_s) / lasts_s), 0.0)

        def total(of: Bools, each: Floats) -> Floats:
            return np.bincount(worker[of], weights=each[of], minlength=rows).astype(np.float64)

        staying = exp(-max(0.0, at_s - now) / lasts_s)
        seats_now = np.maximum(0.0, sequences - total(coming, np.ones(len(worker))))
        # Workers report the KV of what runs; of those that wait for room there we know the prompts.
        kv_now = np.maximum(kv_tokens - total(coming, tokens), total(begun, tokens))
        return Batches(staying * seats_now + total(coming, there), staying * kv_now + total(coming, there * tokens))

    def worst(self, sequences: Floats, kv_tokens: Floats, *, from_s: float, lasts_s: float, now: float) -> Batches:
        """The most that it comes to while a decode lasts that begins at ``from_s``.

        Prefills that end after this one's will be in its batch, too: who looked at the hand-over alone would promise
        the same room to all that are under way elsewhere.
        """
        seen = [
            self.batches(sequences, kv_tokens, at_s=from_s + part * lasts_s, lasts_s=lasts_s, now=now) for part in PARTS
        ]
        return Batches(
            np.maximum.reduce([each.sequences for each in seen]), np.maximum.reduce([each.kv_tokens for each in seen])
        )
