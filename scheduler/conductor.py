"""Choose where each request prefills and decodes, by what it is predicted to cost.

The conductor is a plain object: facts go in with the time they were learned, decisions come out. It
owns no clock, socket or task, so the gRPC service and the simulator run this very file.

    forecast.py   what the request would cost at every worker
    policies/     how prefill workers are ranked by that
    pairing.py    who prefills and who decodes, together, or one for both (inline)

Here is what is promised for it: a placement books p's queue, d's seat, the links, and the names that will be held.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from random import Random

import numpy as np

from kvstore.layout import Identity
from scheduler import estimate
from scheduler.admission import Admission, Loads, limit, refusal, retry_after_s
from scheduler.beliefs import Beliefs, Booking
from scheduler.coming import Coming
from scheduler.degraded import degraded
from scheduler.demand import Demand
from scheduler.forecast import Costs, Forecast, forecast
from scheduler.links import Copy
from scheduler.pairing import Pair, Terms, choose
from scheduler.policies import policy as policy_of
from scheduler.predictions import NOTHING_KNOWN, Accuracy, Predictions
from scheduler.replication import Replication
from scheduler.roles import Roles
from scheduler.shares import Shares
from scheduler.table import NOBODY, Bools, Floats
from scheduler.vocabulary import (
    NO_PROMISE,
    Ask,
    CopyOrder,
    Decision,
    Measured,
    Outcome,
    Placement,
    Promise,
    Rejection,
    RejectionCode,
    RequestId,
    Resync,
    Role,
    StoreId,
    StoreReport,
    Target,
    WorkerId,
    WorkerReport,
)

HANDOFF_S = 0.002
"""What a handoff adds besides copying: Decode's call, the store's acquire and the wake-ups between them.
Measured: 0.16 ms for a small gRPC call, 0.25 ms with 256 names; eight such hops on a busy machine."""

INLINE_IDLE_S = 0.25
"""How long a step with an inline prefill may take on a worker that decodes nothing else: as long as any step
(BatchLimits.max_step_s), so the prompt needs no chunking, which is the paper's own condition for inlining
(arXiv 2407.00079). 1,500 tokens/s on one core of our reference: up to 375 tokens."""

INLINE_BUSY_S = 0.05
"""The same where others are decoding: a prefill in their batch is a gap in each of their streams. 50 ms is four
steps of 12 ms, once; up to 57 tokens at 1,500/s, 800 on an accelerator that prefills 20,000/s with steps of 10 ms."""

EXPECTED_OUTPUT_TOKENS = 343
"""Mean output length of the public conversation trace; weighs TPOT against TTFT where one worker does both."""

BOOKING_TTL_S = 5.0
"""How long after its predicted time a booking may stand unconfirmed: its gateway must have died before it called."""

LINK_BYTES_PER_S = 3e9
"""Between the stores of two hosts, where nothing else is told: 25 Gbit/s Ethernet."""

LINK_S = 0.001
"""What a push or a fetch takes besides its bytes: an offer and its answer, the last layer, the seal."""

SSD_BYTES_PER_S = 2.8e9
"""Reading blocks of 1 to 4 MB directly, measured on our reference machine."""

FETCH_GAIN = 0.1
"""A fetch is to save this share of the TTFT without it: estimates are no better, and a fetch loads two hosts."""

SLOWER = 4.0
"""A full batch's step over that of one sequence, about, where no TPOT is promised."""

QUEUE_S = 30.0
"""Longest wait under ``queue``: the papers' own threshold of a TTFT."""

ADVISE_S = 1.0
"""Between two looks at roles that nobody is told to change: each goes through all workers."""

RETRY_AFTER_S = 1.0
"""A worker that restarts reports within seconds; clients back off on their own from there."""


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """What the conductor believes, for status pages; the reports of stores are without names."""

    identity: Identity | None
    handoffs: int
    workers: tuple[WorkerReport, ...]
    stores: tuple[StoreReport, ...]
    decisions: Mapping[Decision, int] = field(default_factory=dict)
    """How many placements were of each kind."""
    refused: int = 0
    """For being late."""
    accuracy: Accuracy = NOTHING_KNOWN
    role_changes: int = 0
    degraded: str | None = None
    """Why one role does the work of both, if it does."""
    copies_ordered: int = 0
    copies_done: int = 0
    """Of hot prefixes, to stores that nobody waited at."""
    prefills_wasted: int = 0
    """Of requests that were refused when their prefill had ended."""
    drifts: int = 0
    """How often a digest has shown that what was believed of a store was wrong."""


class Conductor:
    """See the module.

    inline_max_tokens: the most uncached tokens that are prefilled inline; None: by cost alone; 0: none,
    while a worker that could hand over lives. report_ttl_s: who is silent for longer is believed dead.
    link_bytes_per_s: between two hosts' stores. ssd_bytes_per_s: of a store's SSD, read. policy: see
    ``scheduler.policies``; seed: of the one that draws lots. admission: see ``scheduler.admission``; promise: to
    whoever does not say what it wants; queue_s: the longest predicted TTFT under ``queue``. elastic: whether workers
    are told to change their roles; advises: whether ``role_advice`` says what they would be told, otherwise.
    replicate: whether stores are told to fetch hot prefixes. settles_s: for so long after the first report nobody is
    placed, as others are still to tell of themselves.
    """

    def __init__(
        self,
        *,
        inline_max_tokens: int | None = None,
        report_ttl_s: float = 1.5,
        link_bytes_per_s: float = LINK_BYTES_PER_S,
        ssd_bytes_per_s: float = SSD_BYTES_PER_S,
        policy: str = "kvcache-centric",
        seed: int = 0,
        admission: str = "off",
        promise: Promise = NO_PROMISE,
        queue_s: float = QUEUE_S,
        elastic: bool = False,
        advises: bool = False,
        replicate: bool = True,
        settles_s: float = 0.0,
    ) -> None:
        self._inline_max_tokens = inline_max_tokens
        self._costs = Costs(1.0 / link_bytes_per_s, 1.0 / ssd_bytes_per_s, LINK_S, FETCH_GAIN)
        self._policy = policy_of(policy, Random(seed))
        self._beliefs = Beliefs(report_ttl_s)
        self._admission = Admission(admission)
        self._promise = promise
        self._queue_s = queue_s
        self._elastic = elastic
        self._advises = advises
        self._advised_s = -inf
        self._roles = Roles()
        self._replicate = replicate
        self._settles_s = settles_s
        self._replication = Replication(1.0 / link_bytes_per_s)
        self._shares = Shares()
        self._demand = Demand()
        self._predictions = Predictions()
        self._refused = 0
        self._prefills_wasted = 0
        self._handoffs = 0
        self._promised: dict[RequestId, Promise] = {}
        self._decisions: Counter[Decision] = Counter()

    # -- facts --------------------------------------------------------------------------------------------------

    def worker_reported(self, report: WorkerReport, *, now: float) -> bool:
        """Always False: a worker's report is whole. Raises IdentityMismatch with a sentence."""
        self._beliefs.worker_reported(report, now=now)
        return False

    def store_reported(self, report: StoreReport, *, now: float) -> Resync | None:
        """Why it should tell all its names next, if it should. Raises IdentityMismatch with a sentence."""
        return self._beliefs.store_reported(report, now=now)

    def outcome(self, request: RequestId, outcome: Outcome, *, now: float, measured: Measured | None = None) -> None:
        """measured: what the request got, where its gateway knows."""
        if outcome is Outcome.HANDED_OVER:
            self._handoffs += 1
            self._beliefs.handed_over(request)
            self._beliefs.flights.begun(request, now=now)
        else:
            self._beliefs.unbook(request)
            self._beliefs.flights.ended(request, finished=outcome is Outcome.FINISHED, now=now)
            self._predictions.happened(request, measured)
            self._promised.pop(request, None)

    def tick(self, *, now: float) -> None:
        self._beliefs.expire(now=now)
        if self._elastic:
            self._roles.look(self._beliefs, self._promise, now=now)
        elif self._advises and now - self._advised_s >= ADVISE_S:
            self._advised_s = now
            self._roles.look(self._beliefs, self._promise, dry=True, now=now)
        if self._replicate:
            self._replication.look(self._beliefs, now=now)

    def directive(self, worker: WorkerId, *, now: float) -> Role | None:
        """The role that this worker should take, for the answer to its report; None: the one that it has."""
        return self._roles.directive(worker, self._beliefs, now=now)

    def copies(self, store: StoreId) -> tuple[CopyOrder, ...]:
        """What this store should fetch, for the answer to its report; the same again until it has."""
        return self._replication.orders(store)

    @property
    def role_advice(self) -> tuple[int, str]:
        """How often a worker was to change its role, told to or not, and why the last one was."""
        return self._roles.advices, self._roles.why

    @property
    def degraded(self) -> str | None:
        """Why one role does the work of both, if it does."""
        return degraded(belief.report for belief in self._beliefs.workers.values())

    def snapshot(self) -> ClusterSnapshot:
        beliefs = self._beliefs
        return ClusterSnapshot(
            beliefs.identity,
            self._handoffs,
            tuple(belief.report for _, belief in sorted(beliefs.workers.items())),
            tuple(belief.report for _, belief in sorted(beliefs.stores.items())),
            dict(self._decisions),
            self._refused,
            self._predictions.accuracy(),
            self._roles.changes,
            self.degraded,
            self._replication.ordered,
            self._replication.done,
            self._prefills_wasted,
            beliefs.drifts,
        )

    # -- decisions ----------------------------------------------------------------------------------------------

    def place(self, ask: Ask, *, now: float) -> Placement | Rejection:
        """Books what it promises; an earlier placement of the same request is forgotten."""
        beliefs = self._beliefs
        beliefs.unbook(ask.request)
        beliefs.catch_up(now=now)
        if beliefs.identity is None:
            return self._rejection(ask, now)
        if now < beliefs.since_s + self._settles_s:
            reason = "this conductor has just begun to hear of workers"
            return Rejection(ask.request, RejectionCode.UNAVAILABLE, reason, self._settles_s)
        self._demand.asked(now=now)
        at = forecast(beliefs, ask, self._costs, fetches=self._policy.fetches, demand=self._demand, now=now)
        promise = self._promise.to(ask)
        tpot_s, room = self._met(ask, at, promise, now)
        pair = choose(at, self._policy, self._terms(ask, promise), tpot_s=tpot_s * self._predictions.tpot_bound)
        if pair is None:
            return self._rejection(ask, now)
        predicted_s = float(at.ttft_s[pair.computes])
        decode = self._predictions.tpot_bound * float(tpot_s[pair.decode]) / promise.tpot_s
        sure_s = self._predictions.ttft_bound * predicted_s
        loads = Loads(sure_s / promise.ttft_s, decode if room[pair.decode] else inf)
        refused = self._refusal(ask, loads, sure_s, promise, now)
        if refused is not None:
            return refused
        self._decisions[pair.decision] += 1
        self._promised[ask.request] = promise
        self._predictions.predicted(ask.request, promise, ttft_s=predicted_s, tpot_s=float(tpot_s[pair.decode]))
        self._book(ask, at, pair, now)
        self._demand.placed(float(at.work_s[pair.computes]), now=now)
        self._replication.asked(ask.names, at.shared, float(at.work_s[pair.computes]), now=now)
        source = int(at.source[pair.computes])
        return Placement(
            request=ask.request,
            decode=self._target(pair.decode, now),
            prefill=None if pair.prefill == NOBODY else self._target(pair.prefill, now),
            predicted_ttft_s=predicted_s * self._predictions.ttft_factor,
            predicted_tpot_s=float(at.tpot_s[pair.decode]),
            predicted_cached_tokens=int(at.cached[pair.computes]) * self._block_tokens,
            decision=pair.decision,
            source=None if source == NOBODY else beliefs.reachable(beliefs.store_table.keys[source], now),
            second_check=self._admission is Admission.BASELINE and pair.prefill != NOBODY and not ask.resumed,
            promise=promise,
        )

    def decode_begins(self, request: RequestId, *, now: float) -> Rejection | None:
        """Under ``baseline``, when a prefill has ended: whether the decode worker still keeps what was promised."""
        beliefs, promise = self._beliefs, self._promised.get(request, self._promise)
        beliefs.flights.begun(request, now=now)
        row = beliefs.flights.worker(request)
        if self._admission is not Admission.BASELINE or row == NOBODY:
            return None
        column = beliefs.worker_table.column
        met = beliefs.flights.batches(column("sequences"), column("kv_tokens"), at_s=now, lasts_s=inf, now=now)
        sequences, kv_tokens = float(met.sequences[row]), float(met.kv_tokens[row])
        profile = beliefs.workers[self._worker(row)].report.profile
        tpot_s = estimate.step_s(profile, sequences, kv_tokens)
        self._predictions.again(request, tpot_s=tpot_s)
        load = self._predictions.tpot_bound * tpot_s / promise.tpot_s
        room = sequences <= column("seats")[row] and kv_tokens <= column("blocks_total")[row] * self._block_tokens
        if load <= 1.0 and room:
            return None
        self._refused += 1
        self._prefills_wasted += 1
        why = f"its tokens would take {load:.2f} of the time that was promised" if room else "its decode worker is full"
        reason = f"{why}, and its prefill was in vain"
        return Rejection(request, RejectionCode.UNATTAINABLE, reason, RETRY_AFTER_S)

    def _met(self, ask: Ask, at: Forecast, promise: Promise, now: float) -> tuple[Floats, Bools]:
        """The TPOT by which promises are judged, and whether there will be a seat and blocks, at each worker."""
        if not self._admission.looks_at_decode or not at.decoder.any():
            return at.tpot_s, np.ones_like(at.room)
        flights, now_there = self._beliefs.flights, (at.sequences, at.kv_tokens)
        if self._admission is Admission.PREDICTIVE:
            # When the shortest queue is through, the same for all: further ahead fewer decodes are known of, so long
            # prompts would look into an emptier future than short ones, and take all the room.
            could = at.prefiller if at.prefiller.any() else at.decoder
            wait_s = self._predictions.ttft_factor * float(np.min(at.wait_s, where=could, initial=inf))
            # Until it is known: as slow as is promised, lest the first seconds of a rush promise everything.
            assumed_s = min(promise.tpot_s, float(np.max(at.tpot_s, where=at.decoder, initial=0.0)) * SLOWER)
            lasts_s = flights.lasts_s(EXPECTED_OUTPUT_TOKENS * assumed_s, now=now)
            met = flights.worst(*now_there, from_s=now + wait_s + HANDOFF_S + LINK_S, lasts_s=lasts_s, now=now)
        else:
            met = flights.batches(*now_there, at_s=now, lasts_s=inf, now=now)
        base, each, token = at.step_s
        room: Bools = met.sequences + 1 <= at.seats
        room &= met.kv_tokens + ask.tokens + min(ask.max_new_tokens, EXPECTED_OUTPUT_TOKENS) <= at.capacity
        return base + each * (met.sequences + 1) + token * (met.kv_tokens + ask.tokens), room

    def _refusal(self, ask: Ask, loads: Loads, ttft_s: float, promise: Promise, now: float) -> Rejection | None:
        mode = self._admission
        if mode is Admission.OFF:
            return None
        most = limit(ask, self._shares.excess(ask.tenant, now=now))
        reason = refusal(mode, loads, most, ttft_s=ttft_s, queue_s=self._queue_s)
        if reason is None:
            return None
        self._refused += 1
        lasts_s = self._beliefs.flights.lasts_s(EXPECTED_OUTPUT_TOKENS * min(promise.tpot_s, 1.0), now=now)
        after_s = retry_after_s(mode, loads, most, ttft_s=ttft_s, queue_s=self._queue_s, lasts_s=lasts_s)
        return Rejection(ask.request, RejectionCode.UNATTAINABLE, reason, after_s)

    def _terms(self, ask: Ask, promise: Promise) -> Terms:
        return Terms(
            tokens=ask.tokens,
            block_tokens=self._block_tokens,
            outputs=min(ask.max_new_tokens, EXPECTED_OUTPUT_TOKENS),
            inline_max_tokens=self._inline_max_tokens,
            handoff_s=HANDOFF_S,
            push_s=LINK_S,
            idle_s=INLINE_IDLE_S,
            busy_s=INLINE_BUSY_S,
            ttft_s=promise.ttft_s / self._predictions.ttft_bound,
            tpot_s=promise.tpot_s,
        )

    def _book(self, ask: Ask, at: Forecast, pair: Pair, now: float) -> None:
        beliefs, computes = self._beliefs, pair.computes
        ttft_s, work_s = float(at.ttft_s[computes]), float(at.work_s[computes])
        expires_s, inline = now + 2.0 * ttft_s + BOOKING_TTL_S, pair.prefill == NOBODY
        seat = Booking(expires_s, work_s if inline else 0.0, seats=1, kv_tokens=ask.tokens, blocks=self._blocks(ask))
        bookings = {self._worker(pair.decode): seat}
        if not inline:
            bookings[self._worker(pair.prefill)] = Booking(expires_s, work_s)
        begins_s = now + ttft_s + (0.0 if inline else HANDOFF_S + pair.push_s)
        beliefs.flights.placed(ask.request, pair.decode, ask.tokens, begins_s=begins_s)
        self._shares.had(ask.tenant, work_s + float(at.step_s[1][pair.decode]) * ask.max_new_tokens, now=now)
        here, there = self._store(at, computes), self._store(at, pair.decode)
        source = beliefs.store_table.keys[at.source[computes]] if at.source[computes] != NOBODY else None
        coming, copies = [], []
        if here is not None:
            coming.append(Coming(here, ask.names[int(at.reach[computes]) :], now + ttft_s))
            if source is not None:
                copies.append(Copy(source, here, float(at.copied_s[computes])))
        if here is not None and there is not None and here != there:
            coming.append(Coming(there, ask.names[int(at.reach[pair.decode]) :], now + ttft_s + pair.push_s))
            copies.append(Copy(here, there, float(at.lacked_s[pair.decode])))
        beliefs.book(ask.request, bookings, coming=tuple(it for it in coming if it.names), copies=copies, now=now)

    def _worker(self, row: int) -> WorkerId:
        worker = self._beliefs.worker_table.keys[row]
        assert worker is not None, "who was chosen is known"
        return worker

    def _store(self, at: Forecast, row: int) -> StoreId | None:
        """The store of the worker of this row, while it is alive."""
        return self._beliefs.store_table.keys[at.store[row]] if at.linked[row] else None

    def _target(self, row: int, now: float) -> Target:
        report = self._beliefs.workers[self._worker(row)].report
        return Target(report.worker, report.address, self._beliefs.reachable(report.store, now))

    def _blocks(self, ask: Ask) -> int:
        """Of the prompt and the first token."""
        return -(-(ask.tokens + 1) // self._block_tokens)

    @property
    def _block_tokens(self) -> int:
        assert self._beliefs.identity is not None, "somebody lives"
        return self._beliefs.identity.block_tokens

    def _rejection(self, ask: Ask, now: float) -> Rejection:
        """Says which condition the workers failed, the last one that would have to be lifted."""
        beliefs = self._beliefs
        live = [worker for worker in beliefs.workers.values() if beliefs.alive(worker.heard_s, now)]
        serving = [worker for worker in live if not worker.report.draining]
        roomy = [worker for worker in serving if ask.tokens < worker.report.max_model_len]
        code = RejectionCode.UNAVAILABLE
        if not live:
            reason = "no worker is alive"
        elif not serving:
            reason = "every worker is being shut down"
        elif not roomy:
            longest = max(worker.report.max_model_len for worker in serving)
            reason = f"{ask.tokens} tokens are more than any worker's context of {longest}"
        else:
            reason = "every worker has refused or failed this request"
            rows = beliefs.worker_table.rows[[beliefs.worker_table.row(worker.report.worker) for worker in roomy]]
            if ((rows["sequences"] >= rows["seats"]) | (rows["blocks_free"] < self._blocks(ask))).any():
                code = RejectionCode.OVERLOADED
        return Rejection(ask.request, code, reason, RETRY_AFTER_S)
