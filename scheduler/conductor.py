"""Choose where each request prefills and decodes, by what it is predicted to cost.

The conductor is a plain object: facts go in with the time they were learned, decisions come out. It
owns no clock, socket or task, so the gRPC service and the simulator run this very file.

    beliefs.py    what is believed of workers and stores
    forecast.py   what the request would cost at every worker
    policies/     how prefill workers are ranked by that
    pairing.py    who prefills and who decodes, together, or one for both (inline)
    judge.py      whether it is taken; nobody.py: why nobody can take it
    booking.py    what is booked for it
"""

from collections import Counter
from dataclasses import replace
from math import inf
from random import Random

from scheduler.admission import Admission
from scheduler.beliefs import Beliefs
from scheduler.booking import Booker
from scheduler.costs import HANDOFF_S, LINK_BYTES_PER_S, LINK_S, SSD_BYTES_PER_S, Costs
from scheduler.degraded import degraded
from scheduler.demand import Demand
from scheduler.flights import EXPECTED_OUTPUT_TOKENS
from scheduler.forecast import Forecast, forecast
from scheduler.judge import QUEUE_S, Judge, Met
from scheduler.nobody import nobody
from scheduler.pairing import Pair, Terms, choose
from scheduler.policies import policy as policy_of
from scheduler.predictions import Predictions
from scheduler.replication import Replication
from scheduler.roles import Roles
from scheduler.snapshot import ClusterSnapshot
from scheduler.table import NOBODY
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

INLINE_IDLE_S = 0.25
"""How long a step with an inline prefill may take on a worker that decodes nothing else: as long as any step
(BatchLimits.max_step_s), so the prompt needs no chunking, which is the paper's own condition for inlining
(arXiv 2407.00079). 1,500 tokens/s on one core of our reference: up to 375 tokens."""

INLINE_BUSY_S = 0.05
"""The same where others are decoding: a prefill in their batch is a gap in each of their streams. 50 ms is four
steps of 12 ms, once; up to 57 tokens at 1,500/s, 800 on an accelerator that prefills 20,000/s with steps of 10 ms."""

ADVISE_S = 1.0
"""Between two looks at roles that nobody is told to change: each goes through all workers."""


class Conductor:
    """See the module.

    inline_max_tokens: the most uncached tokens that are prefilled inline; None: by cost alone; 0: none, while a worker
    that could hand over lives. report_ttl_s: who is silent for longer is believed dead. link_bytes_per_s: between two
    hosts' stores, and ssd_bytes_per_s: of a store's SSD, read; until stores have measured it. policy: see
    ``scheduler.policies``; seed: of the one that draws lots. admission: see ``scheduler.admission``; promise: to
    whoever does not say what it wants; queue_s: the longest predicted TTFT under ``queue``. elastic: whether workers
    are told to change their roles; advises: whether ``role_advice`` says what they would be told, otherwise. replicate:
    whether stores are told to fetch hot prefixes. settles_s: for so long after the first report nobody is placed, as
    others are still to tell of themselves.
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
        self._policy = policy_of(policy, Random(seed))
        self._beliefs = Beliefs(report_ttl_s, Costs(1.0 / link_bytes_per_s, 1.0 / ssd_bytes_per_s))
        self._predictions = Predictions()
        self._judge = Judge(Admission(admission), promise, queue_s, self._beliefs, self._predictions)
        self._booker = Booker(self._beliefs)
        self._demand = Demand()
        self._elastic = elastic
        self._advises = advises
        self._advised_s = -inf
        self._roles = Roles()
        self._replicate = replicate
        self._replication = Replication()
        self._settles_s = settles_s
        self._handoffs = 0
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

    def tick(self, *, now: float) -> None:
        self._beliefs.expire(now=now)
        if self._elastic:
            self._roles.look(self._beliefs, self._judge.promise, now=now)
        elif self._advises and now - self._advised_s >= ADVISE_S:
            self._advised_s = now
            self._roles.look(self._beliefs, self._judge.promise, dry=True, now=now)
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
        links, disks = beliefs.paces.agreements()
        return ClusterSnapshot(
            beliefs.identity,
            self._handoffs,
            tuple(belief.report for _, belief in sorted(beliefs.workers.items())),
            tuple(belief.report for _, belief in sorted(beliefs.stores.items())),
            dict(self._decisions),
            self._judge.refused,
            replace(self._predictions.accuracy(), links=links, disks=disks),
            self._roles.changes,
            self.degraded,
            self._replication.ordered,
            self._replication.done,
            self._judge.prefills_wasted,
            beliefs.drifts,
            beliefs.paces.paces(),
        )

    # -- decisions ----------------------------------------------------------------------------------------------

    def place(self, ask: Ask, *, now: float) -> Placement | Rejection:
        """Books what it promises; an earlier placement of the same request is forgotten."""
        beliefs, judge = self._beliefs, self._judge
        beliefs.unbook(ask.request)
        beliefs.catch_up(now=now)
        if beliefs.identity is None:
            return nobody(beliefs, ask, now=now)
        if now < beliefs.since_s + self._settles_s:
            reason = "the conductor has just started, and is still hearing which workers there are"
            return Rejection(ask.request, RejectionCode.UNAVAILABLE, reason, self._settles_s)
        self._demand.asked(now=now)
        at = forecast(beliefs, ask, fetches=self._policy.fetches, demand=self._demand, now=now)
        promise = judge.promise.to(ask)
        met = judge.met(ask, at, promise, now=now)
        pair = choose(at, self._policy, self._terms(ask, promise), tpot_s=met.tpot_s * self._predictions.tpot_bound)
        if pair is None:
            return nobody(beliefs, ask, now=now)
        refused = judge.refusal(ask, at, pair, met, promise, now=now)
        if refused is not None:
            return refused
        self._promise(ask, at, pair, met, promise, now)
        return self._placement(ask, at, pair, promise, now)

    def decode_begins(self, request: RequestId, *, now: float) -> Rejection | None:
        """When a prefill has ended: whether its placement is taken back."""
        return self._judge.decode_begins(request, now=now)

    def _promise(self, ask: Ask, at: Forecast, pair: Pair, met: Met, promise: Promise, now: float) -> None:
        """Write down that it is placed, wherever that matters from now on."""
        work_s = float(at.work_s[pair.computes])
        self._decisions[pair.decision] += 1
        self._predictions.predicted(
            ask.request, promise, ttft_s=float(at.ttft_s[pair.computes]), tpot_s=float(met.tpot_s[pair.decode])
        )
        self._booker.book(ask, at, pair, now=now)
        self._judge.taken(ask, at, pair, now=now)
        self._demand.placed(pair.computes, work_s, now=now)
        self._replication.asked(ask.names, at.shared, work_s, now=now)

    def _placement(self, ask: Ask, at: Forecast, pair: Pair, promise: Promise, now: float) -> Placement:
        beliefs, source = self._beliefs, int(at.source[pair.computes])
        return Placement(
            request=ask.request,
            decode=self._target(pair.decode, now),
            prefill=None if pair.prefill == NOBODY else self._target(pair.prefill, now),
            predicted_ttft_s=float(at.ttft_s[pair.computes]) * self._predictions.ttft_factor,
            predicted_tpot_s=float(at.tpot_s[pair.decode]),
            predicted_cached_tokens=int(at.cached[pair.computes]) * beliefs.block_tokens,
            decision=pair.decision,
            source=None if source == NOBODY else beliefs.reachable(beliefs.store_table.keys[source], now),
            second_check=self._judge.mode.checks_again and pair.prefill != NOBODY and not ask.resumed,
            promise=promise,
            admitted=self._judge.mode is not Admission.OFF and promise.ttft_s < inf,
        )

    def _terms(self, ask: Ask, promise: Promise) -> Terms:
        return Terms(
            tokens=ask.tokens,
            block_tokens=self._beliefs.block_tokens,
            outputs=min(ask.max_new_tokens, EXPECTED_OUTPUT_TOKENS),
            inline_max_tokens=self._inline_max_tokens,
            handoff_s=HANDOFF_S,
            push_s=LINK_S,
            idle_s=INLINE_IDLE_S,
            busy_s=INLINE_BUSY_S,
            ttft_s=(promise.ttft_s - ask.spent_s) / self._predictions.ttft_bound,
            tpot_s=promise.tpot_s,
        )

    def _target(self, row: int, now: float) -> Target:
        report = self._beliefs.workers[self._beliefs.worker_at(row)].report
        return Target(report.worker, report.address, self._beliefs.reachable(report.store, now))
