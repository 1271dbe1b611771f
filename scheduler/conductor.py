"""Choose where each request prefills and decodes, by what it is predicted to cost.

The conductor is a plain object: facts go in with the time they were learned, decisions come out. It
owns no clock, socket or task, so the gRPC service and the simulator run this very file.

    TTFT at p   = queue of p + lift of the prefix that p's store holds + prefill of the rest
    TPOT at d   = one step of the batch that d will have with this request in it
    handoff     = two more calls, and d lifts the whole prompt

The decode worker is the one with room and the least TPOT, the prefill worker the one with the least
TTFT; d does it all (inline) when that is no later than a handoff and disturbs d's batch for less than a bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kvstore.layout import Identity
from scheduler import estimate
from scheduler.beliefs import Beliefs, Booking, WorkerBelief
from scheduler.vocabulary import (
    Ask,
    Outcome,
    Placement,
    Rejection,
    RejectionCode,
    RequestId,
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

RETRY_AFTER_S = 1.0
"""A worker that restarts reports within seconds; clients back off on their own from there."""


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """What the conductor believes, for status pages; the reports of stores are without names."""

    identity: Identity | None
    handoffs: int
    workers: tuple[WorkerReport, ...]
    stores: tuple[StoreReport, ...]


@dataclass(frozen=True, slots=True)
class _Prefill:
    """What prefilling a request at one worker is predicted to take. work_s: of it, what that worker is busy with."""

    worker: WorkerBelief
    cached_tokens: int
    work_s: float
    ttft_s: float


class Conductor:
    """See the module.

    inline_max_tokens: the most uncached tokens that are prefilled inline; None: by cost alone; 0: none,
    while a worker that could hand over lives. report_ttl_s: who is silent for longer is believed dead.
    """

    def __init__(self, *, inline_max_tokens: int | None = None, report_ttl_s: float = 1.5) -> None:
        self._inline_max_tokens = inline_max_tokens
        self._beliefs = Beliefs(report_ttl_s)
        self._handoffs = 0

    # -- facts --------------------------------------------------------------------------------------------------

    def worker_reported(self, report: WorkerReport, *, now: float) -> bool:
        """Always False: a worker's report is whole. Raises IdentityMismatch with a sentence."""
        self._beliefs.worker_reported(report, now=now)
        return False

    def store_reported(self, report: StoreReport, *, now: float) -> bool:
        """True: a report was missed, send a snapshot next. Raises IdentityMismatch with a sentence."""
        return self._beliefs.store_reported(report, now=now)

    def outcome(self, request: RequestId, outcome: Outcome, *, now: float) -> None:
        if outcome is Outcome.HANDED_OVER:
            self._handoffs += 1
            self._beliefs.handed_over(request)
        else:
            self._beliefs.unbook(request)

    def tick(self, *, now: float) -> None:
        self._beliefs.expire(now=now)

    def snapshot(self) -> ClusterSnapshot:
        beliefs = self._beliefs
        return ClusterSnapshot(
            beliefs.identity,
            self._handoffs,
            tuple(belief.report for _, belief in sorted(beliefs.workers.items())),
            tuple(belief.report for _, belief in sorted(beliefs.stores.items())),
        )

    # -- decisions ----------------------------------------------------------------------------------------------

    def place(self, ask: Ask, *, now: float) -> Placement | Rejection:
        """Books what it promises; an earlier placement of the same request is forgotten."""
        beliefs = self._beliefs
        beliefs.unbook(ask.request)
        live = [
            worker
            for worker in beliefs.workers.values()
            if beliefs.alive(worker.heard_s, now)
            and not worker.report.draining
            and worker.report.worker not in ask.excluded
        ]
        decoders = [each for each in live if each.report.role.decodes and ask.tokens < each.report.max_model_len]
        if not decoders:
            return self._rejection(ask, now)
        held = beliefs.prefixes.longest(ask.names)
        decode, prefillers = self._pair(live, decoders, ask, now)
        if decode is None:
            decode = min(decoders, key=lambda worker: self._inline_rank(worker, ask, held))
            return self._placed(ask, decode, self._prefill_at(decode, ask, held), inline=True, now=now)
        prefill = min(
            (self._prefill_at(worker, ask, held) for worker in prefillers),
            key=lambda it: (it.ttft_s, it.worker.sequences, it.worker.report.worker),
        )
        inline = self._prefill_at(decode, ask, held)
        if self._inlines(ask, inline, prefill):
            return self._placed(ask, decode, inline, inline=True, now=now)
        return self._placed(ask, decode, prefill, inline=False, now=now)

    def _pair(
        self, live: list[WorkerBelief], decoders: list[WorkerBelief], ask: Ask, now: float
    ) -> tuple[WorkerBelief | None, list[WorkerBelief]]:
        """The best decode worker that can be handed over to, and who could do it; None where all should prefill inline.

        Mixed workers share work by where it is placed, and hand over to each other only where that is insisted on.
        """
        insisted = self._inline_max_tokens == 0
        sources = [each for each in live if each.report.role.prefills and ask.tokens < each.report.max_model_len]
        if not any(insisted or each.report.role is Role.PREFILL for each in sources):
            return None, []
        for decode in sorted(decoders, key=lambda worker: self._decode_rank(worker, ask)):
            store = decode.report.store
            known = self._beliefs.stores.get(store) if store is not None else None
            if known is None or not self._beliefs.alive(known.heard_s, now):
                continue  # KV moves through the store that both use, so it has to be there
            able = [each for each in sources if each is not decode and each.report.store == store]
            if any(insisted or each.report.role is Role.PREFILL for each in able):
                return decode, able
        return None, []

    def _decode_rank(self, worker: WorkerBelief, ask: Ask) -> tuple[bool, float, int, WorkerId]:
        return not self._has_room(worker, ask), _tpot_s(worker, ask), worker.sequences, worker.report.worker

    def _inline_rank(
        self, worker: WorkerBelief, ask: Ask, held: Mapping[StoreId, int]
    ) -> tuple[bool, float, int, WorkerId]:
        """By the time until the expected end."""
        output = min(ask.max_new_tokens, EXPECTED_OUTPUT_TOKENS)
        end_s = self._prefill_at(worker, ask, held).ttft_s + output * _tpot_s(worker, ask)
        return not self._has_room(worker, ask), end_s, worker.sequences, worker.report.worker

    def _has_room(self, worker: WorkerBelief, ask: Ask) -> bool:
        return worker.sequences < worker.report.max_num_seqs and self._blocks(ask) <= worker.blocks_free

    def _blocks(self, ask: Ask) -> int:
        """Of the prompt and the first token."""
        return -(-(ask.tokens + 1) // self._block_tokens)

    @property
    def _block_tokens(self) -> int:
        assert self._beliefs.identity is not None, "somebody lives"
        return self._beliefs.identity.block_tokens

    def _prefill_at(self, worker: WorkerBelief, ask: Ask, held: Mapping[StoreId, int]) -> _Prefill:
        report, size = worker.report, self._block_tokens
        # At least the last token is computed, and chunks start at block boundaries.
        blocks = min(held.get(report.store, 0), (ask.tokens - 1) // size) if report.store is not None else 0
        work_s = estimate.prefill_s(report.profile, ask.tokens, blocks * size)
        if blocks:
            work_s += estimate.transfer_s(report.profile, blocks * report.block_bytes)
        # It can't begin before the step that is under way has ended.
        step_s = estimate.step_s(report.profile, report.running, report.kv_tokens) if report.running else 0.0
        return _Prefill(worker, blocks * size, work_s, worker.queue_s + step_s + work_s)

    def _inlines(self, ask: Ask, inline: _Prefill, prefill: _Prefill) -> bool:
        """Whether the decode worker does it all: as soon as a handoff would, and without a long step."""
        limit, decode = self._inline_max_tokens, inline.worker
        if limit is not None and ask.tokens - inline.cached_tokens > limit:
            return False
        busy = decode.sequences > 0
        step_s = _tpot_s(decode, ask) if busy else 0.0
        if inline.work_s + step_s > (INLINE_BUSY_S if busy else INLINE_IDLE_S):
            return False
        profile, size_bytes = decode.report.profile, self._blocks(ask) * decode.report.block_bytes
        return inline.ttft_s <= prefill.ttft_s + HANDOFF_S + estimate.transfer_s(profile, size_bytes)

    def _placed(self, ask: Ask, decode: WorkerBelief, prefill: _Prefill, *, inline: bool, now: float) -> Placement:
        tpot_s = _tpot_s(decode, ask)
        expires_s = now + 2.0 * prefill.ttft_s + BOOKING_TTL_S
        seat = Booking(
            expires_s, prefill.work_s if inline else 0.0, seats=1, kv_tokens=ask.tokens, blocks=self._blocks(ask)
        )
        bookings = {decode.report.worker: seat}
        if not inline:
            bookings[prefill.worker.report.worker] = Booking(expires_s, prefill.work_s)
        self._beliefs.book(ask.request, bookings)
        return Placement(
            request=ask.request,
            decode=_target(decode),
            prefill=None if inline else _target(prefill.worker),
            predicted_ttft_s=prefill.ttft_s,
            predicted_tpot_s=tpot_s,
            predicted_cached_tokens=prefill.cached_tokens,
        )

    def _rejection(self, ask: Ask, now: float) -> Rejection:
        """Says which condition the decode workers failed, the last one that would have to be lifted."""
        beliefs = self._beliefs
        live = [worker for worker in beliefs.workers.values() if beliefs.alive(worker.heard_s, now)]
        decoders = [worker for worker in live if worker.report.role.decodes]
        serving = [worker for worker in decoders if not worker.report.draining]
        roomy = [worker for worker in serving if ask.tokens < worker.report.max_model_len]
        code = RejectionCode.UNAVAILABLE
        if not decoders:
            reason = "no decode worker is alive"
        elif not serving:
            reason = "every decode worker is being shut down"
        elif not roomy:
            longest = max(worker.report.max_model_len for worker in serving)
            reason = f"{ask.tokens} tokens are more than any decode worker's context of {longest}"
        else:
            reason = "every decode worker has refused or failed this request"
            if any(not self._has_room(worker, ask) for worker in roomy):
                code = RejectionCode.OVERLOADED
        return Rejection(ask.request, code, reason, RETRY_AFTER_S)


def _tpot_s(worker: WorkerBelief, ask: Ask) -> float:
    """One step of the batch as it will be; sequences that still wait count too, so a queue makes a worker slower."""
    return estimate.step_s(worker.report.profile, worker.sequences + 1, worker.kv_tokens + ask.tokens)


def _target(worker: WorkerBelief) -> Target:
    return Target(worker.report.worker, worker.report.address)
