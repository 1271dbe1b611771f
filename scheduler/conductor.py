"""Choose where each request prefills and decodes, by what it is predicted to cost.

The conductor is a plain object: facts go in with the time they were learned, decisions come out. It
owns no clock, socket or task, so the gRPC service and the simulator run this very file.

    TTFT at p   = max(queue of p, fetch from another store) + lift of the prefix + prefill of the rest
    TPOT at d   = one step of the batch that d will have with this request in it
    handoff     = two more calls, what a push to d's store leaves behind the prefill, and d lifts the whole prompt

The decode worker is the one with room and the least TPOT, the prefill worker the one with the least TTFT and
handoff; d does it all (inline) when that is no later than a handoff and disturbs d's batch for less than a bound.
"""

from dataclasses import dataclass, replace

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
    StoreTarget,
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
    source: StoreTarget | None = None
    handoff_s: float = 0.0
    """What d waits for after the first token, besides lifting."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is held of one prompt. stores: leading blocks, and how many of them on the SSD only.

    sources: the two stores that hold most of it and can be fetched from: (blocks, on the SSD only, where).
    """

    stores: dict[StoreId | None, tuple[int, int]]
    sources: list[tuple[int, int, StoreTarget]]


class Conductor:
    """See the module.

    inline_max_tokens: the most uncached tokens that are prefilled inline; None: by cost alone; 0: none,
    while a worker that could hand over lives. report_ttl_s: who is silent for longer is believed dead.
    link_bytes_per_s: between two hosts' stores. ssd_bytes_per_s: of a store's SSD, read.
    """

    def __init__(
        self,
        *,
        inline_max_tokens: int | None = None,
        report_ttl_s: float = 1.5,
        link_bytes_per_s: float = LINK_BYTES_PER_S,
        ssd_bytes_per_s: float = SSD_BYTES_PER_S,
    ) -> None:
        self._inline_max_tokens = inline_max_tokens
        self._link_s = 1.0 / link_bytes_per_s
        self._ssd_s = 1.0 / ssd_bytes_per_s
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
        known = self._known(ask, now)
        decode, prefillers = self._pair(live, decoders, ask, now)
        if decode is None:
            decode = min(decoders, key=lambda worker: self._inline_rank(worker, ask, known))
            return self._placed(ask, decode, self._prefill_at(decode, ask, known), inline=True, now=now)
        prefill = min(
            (self._handing_over(self._prefill_at(worker, ask, known), decode, ask, known) for worker in prefillers),
            key=lambda it: (it.ttft_s + it.handoff_s, it.worker.sequences, it.worker.report.worker),
        )
        inline = self._prefill_at(decode, ask, known)
        if self._inlines(ask, inline, prefill):
            return self._placed(ask, decode, inline, inline=True, now=now)
        return self._placed(ask, decode, prefill, inline=False, now=now)

    def _known(self, ask: Ask, now: float) -> _Known:
        beliefs = self._beliefs
        prefixes = beliefs.prefixes.longest(ask.names)
        held, ssd = prefixes.held.tolist(), prefixes.ssd.tolist()
        stores: dict[StoreId | None, tuple[int, int]] = {
            store: (held[at], ssd[at]) for store in beliefs.stores if (at := beliefs.prefixes.place(store)) >= 0
        }
        sources = [
            (blocks, on_ssd, target)
            for store, (blocks, on_ssd) in stores.items()
            if blocks and (target := beliefs.reachable(store, now)) is not None
        ]
        return _Known(stores, sorted(sources, key=lambda it: (-it[0], it[1], it[2].store))[:2])

    def _pair(
        self, live: list[WorkerBelief], decoders: list[WorkerBelief], ask: Ask, now: float
    ) -> tuple[WorkerBelief | None, list[WorkerBelief]]:
        """The best decode worker that can be handed over to, and who could do it; None where all should prefill inline.

        Mixed workers share work by where it is placed, and hand over to each other only where that is insisted on.
        """
        insisted, beliefs = self._inline_max_tokens == 0, self._beliefs
        sources = [each for each in live if each.report.role.prefills and ask.tokens < each.report.max_model_len]
        if not any(insisted or each.report.role is Role.PREFILL for each in sources):
            return None, []
        for decode in sorted(decoders, key=lambda worker: self._decode_rank(worker, ask)):
            store = decode.report.store
            known = beliefs.stores.get(store) if store is not None else None
            if known is None or not beliefs.alive(known.heard_s, now):
                continue  # KV moves through the store that both use, or from theirs to this one
            open_to_others = beliefs.reachable(store, now) is not None
            able = [
                each
                for each in sources
                if each is not decode
                and (
                    each.report.store == store
                    or (open_to_others and beliefs.reachable(each.report.store, now) is not None)
                )
            ]
            if any(insisted or each.report.role is Role.PREFILL for each in able):
                return decode, able
        return None, []

    def _decode_rank(self, worker: WorkerBelief, ask: Ask) -> tuple[bool, float, int, WorkerId]:
        return not self._has_room(worker, ask), _tpot_s(worker, ask), worker.sequences, worker.report.worker

    def _inline_rank(self, worker: WorkerBelief, ask: Ask, known: _Known) -> tuple[bool, float, int, WorkerId]:
        """By the time until the expected end."""
        output = min(ask.max_new_tokens, EXPECTED_OUTPUT_TOKENS)
        end_s = self._prefill_at(worker, ask, known).ttft_s + output * _tpot_s(worker, ask)
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

    def _prefill_at(self, worker: WorkerBelief, ask: Ask, known: _Known) -> _Prefill:
        report, most = worker.report, (ask.tokens - 1) // self._block_tokens
        # It can't begin before the step that is under way has ended.
        step_s = estimate.step_s(report.profile, report.running, report.kv_tokens) if report.running else 0.0
        wait_s = worker.queue_s + step_s
        held, on_ssd = known.stores.get(report.store, (0, 0)) if report.store is not None else (0, 0)
        # At least the last token is computed, and chunks start at block boundaries.
        near = self._prefill_with(worker, ask, min(held, most), wait_s, self._ssd_s * min(on_ssd, most), None)
        best = near
        for blocks, source_ssd, source in known.sources if report.store in known.stores else ():
            if source.store != report.store and min(blocks, most) > held:
                copied = self._ssd_s * (on_ssd + source_ssd) + self._link_s * (min(blocks, most) - held)
                far = self._prefill_with(worker, ask, min(blocks, most), wait_s, copied, source)
                if far.ttft_s < min(best.ttft_s, (1.0 - FETCH_GAIN) * near.ttft_s):
                    best = far
        return best

    def _prefill_with(
        self, worker: WorkerBelief, ask: Ask, blocks: int, wait_s: float, byte_s: float, source: StoreTarget | None
    ) -> _Prefill:
        """byte_s: seconds for each of a block's bytes that SSD and link take before the blocks are in DRAM."""
        profile, block_bytes = worker.report.profile, worker.report.block_bytes
        cached = blocks * self._block_tokens
        work_s = estimate.prefill_s(profile, ask.tokens, cached)
        if blocks:
            work_s += estimate.transfer_s(profile, blocks * block_bytes)
        # SSD and peers are read while the request waits for its turn.
        ready_s = max(wait_s, byte_s * block_bytes + (LINK_S if source is not None else 0.0))
        return _Prefill(worker, cached, work_s, ready_s + work_s, source)

    def _handing_over(self, prefill: _Prefill, decode: WorkerBelief, ask: Ask, known: _Known) -> _Prefill:
        """With what a push to d's store leaves to do after the first token: layers leave while others are computed."""
        report, target = prefill.worker.report, decode.report.store
        if report.store == target:
            return prefill
        held = known.stores[target][0] if target in known.stores else 0
        push_s = self._link_s * max(0, self._blocks(ask) - held) * report.block_bytes
        return replace(prefill, handoff_s=LINK_S + max(0.0, push_s - prefill.work_s))

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
        handoff_s = HANDOFF_S + prefill.handoff_s + estimate.transfer_s(profile, size_bytes)
        return inline.ttft_s <= prefill.ttft_s + handoff_s

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
            decode=self._target(decode, now),
            prefill=None if inline else self._target(prefill.worker, now),
            predicted_ttft_s=prefill.ttft_s,
            predicted_tpot_s=tpot_s,
            predicted_cached_tokens=prefill.cached_tokens,
            source=prefill.source,
        )

    def _target(self, worker: WorkerBelief, now: float) -> Target:
        report = worker.report
        return Target(report.worker, report.address, self._beliefs.reachable(report.store, now))

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
