"""Whether a request is taken: admission's rules, for what is forecast of it and for what others have had.

The rules themselves are in admission.py. Here is which batch is looked at, the one of now or the one that will be met;
what predictions are corrected by; what a tenant has had; and how long batch requests have been refused in a row.
"""

from dataclasses import dataclass, replace
from math import inf

import numpy as np

from scheduler import estimate, refusals
from scheduler.admission import (
    LONGEST_RETRY_S,
    STEP_PART,
    STEP_S,
    Admission,
    Loads,
    Refused,
    futile,
    limit,
    rank_of,
    refused,
)
from scheduler.beliefs import Beliefs
from scheduler.costs import HANDOFF_S, LINK_S
from scheduler.flights import EXPECTED_OUTPUT_TOKENS, Batches
from scheduler.forecast import Forecast
from scheduler.nobody import RETRY_AFTER_S
from scheduler.pairing import Pair
from scheduler.predictions import Predictions
from scheduler.shares import Shares
from scheduler.table import NOBODY, Bools, Floats
from scheduler.virtual_queue import STRETCHED, Need, VirtualQueue
from scheduler.vocabulary import Ask, Priority, Promise, Rejection, RejectionCode, RequestId
from scheduler.waits import Levels, room

QUEUE_S = 30.0
"""Longest wait under ``queue``: the papers' own threshold of a TTFT."""

OVERBOOKED = 1.3
"""What is predicted of a batch over what is counted of it: two standard deviations of the KV of a hundred sequences as
long as the trace's. Nobody knows who ends when, and a seat that stays empty is lost, while one promised too many costs
a prefill: the pool is looked at again when that ends."""

MOST_PLACED = 10_000
"""Requests that are remembered from their placement to the last look; gateways that died never ask for it."""

SLOWER = 4.0
"""A full batch's step over that of one sequence, about, where no TPOT is promised."""


@dataclass(frozen=True, slots=True)
class Met:
    """By row of the workers' table: the TPOT by which promises are judged, and whether there is a seat and blocks."""

    tpot_s: Floats
    room: Bools
    sequences: Floats
    kv_tokens: Floats


class Judge:
    """mode: see ``scheduler.admission``; promise: to whoever does not say what it wants; queue_s: the longest
    predicted TTFT under ``queue``. refused: for being late; prefills_wasted: of those, when their prefill had ended."""

    def __init__(self, mode: Admission, promise: Promise, queue_s: float, beliefs: Beliefs, known: Predictions) -> None:
        self.mode = mode
        self.promise = promise
        self.refused = 0
        self.prefills_wasted = 0
        self._queue_s = queue_s
        self._beliefs = beliefs
        self._predictions = known
        self._shares = Shares()
        self._queue = VirtualQueue()
        self._placed: dict[RequestId, Ask] = {}
        """Those whose decode is looked at again."""
        self._batch_refused_s: float | None = None
        """Since when no batch request was taken, though some asked."""

    def met(self, ask: Ask, at: Forecast, promise: Promise, *, now: float) -> Met:
        """The batch of each worker as this mode sees it."""
        if not self.mode.looks_at_decode or not at.decoder.any():
            return Met(at.tpot_s, np.ones_like(at.room), at.sequences, at.kv_tokens)
        flights, now_there = self._beliefs.flights, (at.sequences, at.kv_tokens)
        if self.mode is Admission.PREDICTIVE:
            # When the shortest queue is through, the same for all: further ahead fewer decodes are known of, so long
            # prompts would look into an emptier future than short ones, and take all the room.
            could = at.prefiller if at.prefiller.any() else at.decoder
            wait_s = self._predictions.ttft_factor * float(np.min(at.wait_s, where=could, initial=inf))
            # Until it is known: as slow as is promised, lest the first seconds of a rush promise everything.
            assumed_s = min(promise.tpot_s, float(np.max(at.tpot_s, where=at.decoder, initial=0.0)) * SLOWER)
            lasts_s = flights.lasts_s(EXPECTED_OUTPUT_TOKENS * assumed_s, now=now)
            batches = flights.worst(*now_there, from_s=now + wait_s + HANDOFF_S + LINK_S, lasts_s=lasts_s, now=now)
            sequences, kv_tokens = batches.sequences / OVERBOOKED, batches.kv_tokens / OVERBOOKED
        else:
            batches = flights.batches(*now_there, at_s=now, lasts_s=inf, now=now)
            sequences, kv_tokens = batches.sequences, batches.kv_tokens
        base, each, token = at.step_s
        blocks_tokens = kv_tokens + self._unfilled(sequences + 1) + ask.tokens
        room: Bools = sequences + 1 <= at.seats
        room &= blocks_tokens + min(ask.max_new_tokens, EXPECTED_OUTPUT_TOKENS) <= at.capacity
        tpot_s = base + each * (sequences + 1) + token * (kv_tokens + ask.tokens)
        return Met(tpot_s, room, sequences, kv_tokens)

    def _unfilled(self, sequences: Floats) -> Floats:
        """Tokens that have room in the last blocks of so many sequences, half a block each."""
        return sequences * (self._beliefs.block_tokens / 2)

    def refusal(
        self, ask: Ask, at: Forecast, pair: Pair, met: Met, promise: Promise, *, now: float
    ) -> Rejection | None:
        """None: it is taken."""
        if self.mode is Admission.OFF:
            return None
        ttft_s = self._ttft_s(ask, at, pair, promise)
        loads = self._loads(ask, at, pair, met, promise)
        starved_s = 0.0 if self._batch_refused_s is None else now - self._batch_refused_s
        most = limit(ask, self._shares.excess(ask.tenant, now=now), starved_s=starved_s)
        turn, before = self._queue.turn(ask, now=now), 0
        returns = turn is not None and turn.is_due(now) and not rank_of(most)
        why = refused(self.mode, loads, most, ttft_s=ttft_s, queue_s=self._queue_s, returns=returns)
        if (why is not None or len(self._queue)) and most < inf:
            need, rank = self._need(ask, at, pair, met, loads, most, promise, now), rank_of(most)
            before = 0 if why is not None else self._queue.before(ask, turn, need, rank=rank, now=now)
            why = Refused.BEHIND if before else why
        if ask.priority is Priority.BATCH and not ask.resumed:
            self._batch_refused_s = None if why is None else now - starved_s
        if why is None:
            self._queue.taken(turn)
            return None
        self.refused += 1
        reason = refusals.sentence(why, ask, loads, most, promise, ttft_s=ttft_s, queue_s=self._queue_s, before=before)
        if futile(self.mode, loads, most):  # unless its prefix is cached by then, or it asks for less
            return Rejection(ask.request, RejectionCode.UNATTAINABLE, reason, LONGEST_RETRY_S, ttft_s, True)
        after_s = self._queue.tell(ask, turn, need, rank=rank, now=now)
        return Rejection(ask.request, RejectionCode.UNATTAINABLE, reason, after_s, ttft_s)

    def _need(
        self, ask: Ask, at: Forecast, pair: Pair, met: Met, loads: Loads, most: float, promise: Promise, now: float
    ) -> Need:
        """What it asks of both pools. Predicted seconds are turned into those that pass by the factor."""
        factor, bound = self._predictions.ttft_factor, self._predictions.ttft_bound
        work_s = float(at.work_s[pair.computes])
        allowed_s = self._queue_s if self.mode is Admission.QUEUE else loads.prefill_limit(most) * promise.ttft_s
        queue_s = (allowed_s - min(STEP_S, STEP_PART * promise.ttft_s)) / bound - work_s
        queues: Floats = at.wait_s[at.prefiller if at.prefiller.any() else at.decoder]
        prefills = Levels(factor * queues)
        if not self.mode.checks_again:
            return Need(factor * work_s, factor * queue_s, prefills, None)
        outputs = min(ask.max_new_tokens, EXPECTED_OUTPUT_TOKENS)
        step_s = float(np.max(at.tpot_s, where=at.decoder, initial=0.0))
        decodes = room(
            at.decoder,
            sequences=met.sequences,
            kv_tokens=met.kv_tokens + self._unfilled(met.sequences),
            seats=at.seats,
            capacity=at.capacity,
            step_s=at.step_s,
            tokens=ask.tokens,
            kv_needed=ask.tokens + outputs + self._beliefs.block_tokens / 2,
            tpot_s=loads.decode_limit(most) * promise.tpot_s / max(STRETCHED, self._predictions.tpot_bound),
            lasts_s=self._beliefs.flights.lasts_s(outputs * min(promise.tpot_s, 2.0 * step_s), now=now),
        )
        return Need(factor * work_s, factor * queue_s, prefills, decodes)

    def _ttft_s(self, ask: Ask, at: Forecast, pair: Pair, promise: Promise) -> float:
        """From its arrival to its first token, by what most of those near their promise have really taken."""
        rest_s = min(STEP_S, STEP_PART * promise.ttft_s, float(at.wait_s[pair.computes]))
        return ask.spent_s + self._predictions.ttft_bound * float(at.ttft_s[pair.computes]) + rest_s

    def _loads(self, ask: Ask, at: Forecast, pair: Pair, met: Met, promise: Promise) -> Loads:
        """Corrected by what most of those that are near their promise have really taken."""
        ttft, tpot = self._predictions.ttft_bound / promise.ttft_s, self._predictions.tpot_bound / promise.tpot_s
        base, each, token = (float(part[pair.decode]) for part in at.step_s)
        return Loads(
            self._ttft_s(ask, at, pair, promise) / promise.ttft_s,
            tpot * float(met.tpot_s[pair.decode]) if met.room[pair.decode] else inf,
            prefill_alone=ttft * float(at.work_s[pair.computes]),
            decode_alone=tpot * (base + each + token * ask.tokens),
        )

    def taken(self, ask: Ask, at: Forecast, pair: Pair, *, now: float) -> None:
        """Its tenant has had this much of the cluster."""
        if self.mode.checks_again and not ask.resumed:
            self._placed[ask.request] = replace(ask, names=ask.names[-1:])  # by which it is known when it comes back
            if len(self._placed) > MOST_PLACED:
                del self._placed[next(iter(self._placed))]
        step_s = float(at.step_s[1][pair.decode])
        self._shares.had(ask.tenant, float(at.work_s[pair.computes]) + step_s * ask.max_new_tokens, now=now)

    def decode_begins(self, request: RequestId, *, now: float) -> Rejection | None:
        """When a prefill ends: whether the decode worker still keeps what was promised, in modes that check again."""
        beliefs, promise = self._beliefs, self._predictions.promise(request) or self.promise
        beliefs.flights.begun(request, now=now)
        ask = self._placed.pop(request, None)
        row = beliefs.flights.worker(request)
        if not self.mode.checks_again or row == NOBODY:
            return None
        column = beliefs.worker_table.column
        met = beliefs.flights.batches(column("sequences"), column("kv_tokens"), at_s=now, lasts_s=inf, now=now)
        sequences, kv_tokens = float(met.sequences[row]), float(met.kv_tokens[row])
        profile = beliefs.workers[beliefs.worker_at(row)].report.profile
        tpot_s = estimate.step_s(profile, sequences, kv_tokens)
        self._predictions.again(request, tpot_s=tpot_s)
        load = self._predictions.tpot_bound * tpot_s / promise.tpot_s
        blocks_tokens = kv_tokens + self._unfilled(met.sequences)[row] + beliefs.flights.outputs(request)
        room = sequences <= column("seats")[row]
        room &= blocks_tokens <= column("blocks_total")[row] * beliefs.block_tokens
        if load <= 1.0 and room:
            return None
        self.refused += 1
        self.prefills_wasted += 1
        why = refusals.slow(load, promise) if room else refusals.FILLED
        reason = f"{why}; {refusals.IN_VAIN}"
        after_s = RETRY_AFTER_S if ask is None else self._tell_again(ask, promise, met, now)
        return Rejection(request, RejectionCode.UNATTAINABLE, reason, after_s)

    def _tell_again(self, ask: Ask, promise: Promise, met: Batches, now: float) -> float:
        """When a request whose prefill was in vain is to come back. Its prompt is cached, so it is for a decode."""
        column, outputs = self._beliefs.worker_table.column, min(ask.max_new_tokens, EXPECTED_OUTPUT_TOKENS)
        size = self._beliefs.block_tokens
        decodes = room(
            column("serving") & column("decodes"),
            sequences=met.sequences,
            kv_tokens=met.kv_tokens + self._unfilled(met.sequences),
            seats=column("seats"),
            capacity=column("blocks_total") * size,
            step_s=(column("step_s0"), column("step_s1"), column("step_s2")),
            tokens=ask.tokens,
            kv_needed=ask.tokens + outputs + size / 2,
            tpot_s=promise.tpot_s / max(STRETCHED, self._predictions.tpot_bound),
            lasts_s=self._beliefs.flights.lasts_s(outputs * min(promise.tpot_s, 1.0), now=now),
        )
        rank = rank_of(limit(ask, self._shares.excess(ask.tenant, now=now)))
        return self._queue.tell(ask, None, Need(0.0, inf, Levels(np.zeros(1)), decodes), rank=rank, now=now)
