"""Translate between the vocabulary's values and wire messages, both ways.

Pairs ``x_to_wire`` and ``x_from_wire``; what goes out comes back equal. Bad
messages raise WireError with a sentence, so that nothing behind this file meets
half a value. No decision is taken here.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import assert_never

from kvstore.layout import Identity, KvLayout
from kvstore.names import NAME_BYTES, BlockName
from scheduler.vocabulary import (
    Ask,
    HitsReport,
    Limits,
    Measured,
    Outcome,
    OwnerReport,
    Placement,
    Priority,
    Profile,
    Rejection,
    RejectionCode,
    RequestId,
    Role,
    Sampling,
    SsdReport,
    StoreId,
    StoreReport,
    StoreTarget,
    Target,
    WorkerId,
    WorkerReport,
)
from services.wire.errors import WireError
from services.wire.pb import common_pb2, conductor_pb2, store_pb2


def names_to_wire(names: Iterable[BlockName]) -> bytes:
    """Names back to back, 16 bytes each."""
    return b"".join(names)


def names_from_wire(data: bytes) -> tuple[BlockName, ...]:
    if len(data) % NAME_BYTES:
        raise WireError(f"names are {NAME_BYTES} bytes each, and {len(data)} bytes came")
    return tuple(BlockName(data[start : start + NAME_BYTES]) for start in range(0, len(data), NAME_BYTES))


def name_from_wire(data: bytes) -> BlockName:
    """One name, such as a root."""
    if len(data) != NAME_BYTES:
        raise WireError(f"a name is {NAME_BYTES} bytes, and {len(data)} bytes came")
    return BlockName(data)


def identity_to_wire(identity: Identity) -> common_pb2.Identity:
    return common_pb2.Identity(
        model=identity.model,
        weights=identity.weights,
        dtype=identity.dtype,
        block_tokens=identity.block_tokens,
        layout=identity.layout,
        protocol=identity.protocol,
    )


def identity_from_wire(wire: common_pb2.Identity) -> Identity:
    return Identity(wire.model, wire.weights, wire.dtype, wire.block_tokens, wire.layout, wire.protocol)


def layout_to_wire(layout: KvLayout) -> store_pb2.Layout:
    return store_pb2.Layout(block_tokens=layout.block_tokens, layer_bytes=layout.layer_bytes, axes=layout.axes)


def layout_from_wire(wire: store_pb2.Layout) -> KvLayout:
    try:
        return KvLayout(wire.block_tokens, tuple(wire.layer_bytes), wire.axes)
    except ValueError as error:
        raise WireError(str(error)) from error


def sampling_to_wire(sampling: Sampling) -> common_pb2.Sampling:
    return common_pb2.Sampling(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        seed=sampling.seed,
    )


def sampling_from_wire(wire: common_pb2.Sampling) -> Sampling:
    if not (math.isfinite(wire.temperature) and wire.temperature >= 0):
        raise WireError(f"temperature must be 0 or more, not {wire.temperature}")
    if not 0 < wire.top_p <= 1:
        raise WireError(f"top_p must be above 0 and at most 1, not {wire.top_p}")
    if not 0 <= wire.min_p <= 1:
        raise WireError(f"min_p must be from 0 to 1, not {wire.min_p}")
    return Sampling(wire.temperature, wire.top_k, wire.top_p, wire.min_p, wire.seed)


def limits_to_wire(limits: Limits) -> common_pb2.Limits:
    return common_pb2.Limits(
        max_tokens=limits.max_tokens, min_tokens=limits.min_tokens, stop_ids=sorted(limits.stop_ids)
    )


def limits_from_wire(wire: common_pb2.Limits) -> Limits:
    if wire.max_tokens < 1:
        raise WireError("max_tokens must be at least 1")
    return Limits(wire.max_tokens, wire.min_tokens, frozenset(wire.stop_ids))


def ask_to_wire(ask: Ask) -> conductor_pb2.Ask:
    return conductor_pb2.Ask(
        request=ask.request,
        names=names_to_wire(ask.names),
        tokens=ask.tokens,
        max_new_tokens=ask.max_new_tokens,
        excluded=sorted(ask.excluded),
        ttft_slo_s=ask.ttft_slo_s,
        tpot_slo_s=ask.tpot_slo_s,
        priority=ask.priority.value,
        tenant=ask.tenant,
        waited_s=ask.waited_s,
        resumed=ask.resumed,
    )


def ask_from_wire(wire: conductor_pb2.Ask) -> Ask:
    return Ask(
        request=_request(wire.request),
        names=names_from_wire(wire.names),
        tokens=wire.tokens,
        max_new_tokens=wire.max_new_tokens,
        excluded=frozenset(WorkerId(worker) for worker in wire.excluded),
        ttft_slo_s=_promised(wire.ttft_slo_s) if wire.HasField("ttft_slo_s") else None,
        tpot_slo_s=_promised(wire.tpot_slo_s) if wire.HasField("tpot_slo_s") else None,
        priority=_priority(wire.priority),
        tenant=wire.tenant,
        waited_s=wire.waited_s,
        resumed=wire.resumed,
    )


def _promised(seconds: float) -> float:
    if not (math.isfinite(seconds) and seconds > 0):
        raise WireError(f"a time that is to be kept is more than 0 s, not {seconds}")
    return seconds


def _priority(word: str) -> Priority:
    try:
        return Priority(word) if word else Priority.INTERACTIVE
    except ValueError as error:
        raise WireError(f"no priority is called {word!r}") from error


def answer_to_wire(answer: Placement | Rejection) -> conductor_pb2.PlaceAnswer:
    match answer:
        case Placement():
            return conductor_pb2.PlaceAnswer(request=answer.request, placement=_placement_to_wire(answer))
        case Rejection():
            rejection = conductor_pb2.Rejection(
                code=answer.code.value, reason=answer.reason, retry_after_s=answer.retry_after_s
            )
            return conductor_pb2.PlaceAnswer(request=answer.request, rejection=rejection)
        case _:
            assert_never(answer)


def answer_from_wire(wire: conductor_pb2.PlaceAnswer) -> Placement | Rejection:
    request = _request(wire.request)
    match wire.WhichOneof("kind"):
        case "placement":
            return _placement_from_wire(request, wire.placement)
        case "rejection":
            try:
                code = RejectionCode(wire.rejection.code)
            except ValueError as error:
                raise WireError(f"no rejection is called {wire.rejection.code!r}") from error
            return Rejection(request, code, wire.rejection.reason, wire.rejection.retry_after_s)
        case _:
            raise WireError("an answer without a placement or a rejection")


def _placement_to_wire(placement: Placement) -> conductor_pb2.Placement:
    return conductor_pb2.Placement(
        decode=_target_to_wire(placement.decode),
        prefill=None if placement.prefill is None else _target_to_wire(placement.prefill),
        predicted_ttft_s=placement.predicted_ttft_s,
        predicted_tpot_s=placement.predicted_tpot_s,
        predicted_cached_tokens=placement.predicted_cached_tokens,
        source=store_target_to_wire(placement.source),
    )


def _placement_from_wire(request: RequestId, wire: conductor_pb2.Placement) -> Placement:
    return Placement(
        request=request,
        decode=_target_from_wire(wire.decode),
        prefill=_target_from_wire(wire.prefill) if wire.HasField("prefill") else None,
        predicted_ttft_s=wire.predicted_ttft_s,
        predicted_tpot_s=wire.predicted_tpot_s,
        predicted_cached_tokens=wire.predicted_cached_tokens,
        source=store_target_from_wire(wire.source) if wire.HasField("source") else None,
    )


def _target_to_wire(target: Target) -> conductor_pb2.Target:
    return conductor_pb2.Target(worker=target.worker, address=target.address, store=store_target_to_wire(target.store))


def _target_from_wire(wire: conductor_pb2.Target) -> Target:
    if not wire.worker or not wire.address:
        raise WireError("a placement names a worker and where to call it")
    store = store_target_from_wire(wire.store) if wire.HasField("store") else None
    return Target(WorkerId(wire.worker), wire.address, store)


def store_target_to_wire(target: StoreTarget | None) -> common_pb2.StoreTarget | None:
    return None if target is None else common_pb2.StoreTarget(store=target.store, address=target.address)


def store_target_from_wire(wire: common_pb2.StoreTarget) -> StoreTarget:
    if not wire.store or not wire.address:
        raise WireError("a store that is to be sent to or fetched from has a name and an address")
    return StoreTarget(StoreId(wire.store), wire.address)


def outcome_to_wire(
    request: RequestId, outcome: Outcome, measured: Measured | None = None
) -> conductor_pb2.OutcomeReport:
    ttft_s, tpot_s = (None, None) if measured is None else (measured.ttft_s, measured.tpot_s)
    return conductor_pb2.OutcomeReport(request=request, outcome=outcome.value, ttft_s=ttft_s, tpot_s=tpot_s)


def measured_from_wire(wire: conductor_pb2.OutcomeReport) -> Measured | None:
    """What an outcome report says besides; None where nothing was measured."""
    ttft_s = wire.ttft_s if wire.HasField("ttft_s") else None
    tpot_s = wire.tpot_s if wire.HasField("tpot_s") else None
    if any(value is not None and not (math.isfinite(value) and value >= 0) for value in (ttft_s, tpot_s)):
        raise WireError("what was measured is 0 s or more")
    return None if ttft_s is None and tpot_s is None else Measured(ttft_s, tpot_s)


def outcome_from_wire(wire: conductor_pb2.OutcomeReport) -> tuple[RequestId, Outcome]:
    request = _request(wire.request)
    try:
        return request, Outcome(wire.outcome)
    except ValueError as error:
        raise WireError(f"no outcome of a request is called {wire.outcome!r}") from error


ROLES = {
    Role.PREFILL: common_pb2.ROLE_PREFILL,
    Role.DECODE: common_pb2.ROLE_DECODE,
    Role.MIXED: common_pb2.ROLE_MIXED,
}
ROLES_BACK = {wire: role for role, wire in ROLES.items()}


def role_to_wire(role: Role | None) -> "common_pb2.Role.ValueType":
    return common_pb2.ROLE_UNSPECIFIED if role is None else ROLES[role]


def role_from_wire(wire: "common_pb2.Role.ValueType") -> Role | None:
    """None: no role is named, or none that we know."""
    return ROLES_BACK.get(wire)


def _profile_to_wire(profile: Profile) -> conductor_pb2.Profile:
    return conductor_pb2.Profile(prefill_s=profile.prefill_s, step_s=profile.step_s, transfer_s=profile.transfer_s)


def _profile_from_wire(wire: conductor_pb2.Profile) -> Profile:
    coefficients = (*wire.prefill_s, *wire.step_s, *wire.transfer_s)
    if (len(wire.prefill_s), len(wire.step_s), len(wire.transfer_s)) != (3, 3, 2):
        raise WireError("a profile has 3 coefficients for prefill, 3 for a step and 2 for transfers")
    if not all(math.isfinite(value) and value >= 0 for value in coefficients):
        raise WireError("a profile's coefficients are 0 or more")
    return Profile(
        prefill_s=(wire.prefill_s[0], wire.prefill_s[1], wire.prefill_s[2]),
        step_s=(wire.step_s[0], wire.step_s[1], wire.step_s[2]),
        transfer_s=(wire.transfer_s[0], wire.transfer_s[1]),
    )


def worker_report_to_wire(report: WorkerReport) -> conductor_pb2.WorkerReport:
    return conductor_pb2.WorkerReport(
        worker=report.worker,
        incarnation=report.incarnation,
        sequence=report.sequence,
        role=ROLES[report.role],
        address=report.address,
        store=report.store,
        pid=report.pid,
        identity=identity_to_wire(report.identity),
        profile=_profile_to_wire(report.profile),
        max_num_seqs=report.max_num_seqs,
        max_model_len=report.max_model_len,
        running=report.running,
        waiting=report.waiting,
        prefill_tokens_queued=report.prefill_tokens_queued,
        kv_tokens=report.kv_tokens,
        gpu_blocks_free=report.gpu_blocks_free,
        gpu_blocks_total=report.gpu_blocks_total,
        live=report.live,
        draining=report.draining,
        block_bytes=report.block_bytes,
        prefills_queued=report.prefills_queued,
        prefill_squares_queued=report.prefill_squares_queued,
    )


def worker_report_from_wire(wire: conductor_pb2.WorkerReport) -> WorkerReport:
    if not wire.worker or not wire.address:
        raise WireError("a report names its worker and where to call it")
    if wire.role not in ROLES_BACK:
        raise WireError(f"no role has the number {wire.role}")
    if not wire.HasField("identity"):
        raise WireError(f"worker {wire.worker} reports no identity")
    return WorkerReport(
        worker=WorkerId(wire.worker),
        incarnation=wire.incarnation,
        sequence=wire.sequence,
        role=ROLES_BACK[wire.role],
        address=wire.address,
        store=StoreId(wire.store) if wire.HasField("store") else None,
        pid=wire.pid,
        identity=identity_from_wire(wire.identity),
        profile=_profile_from_wire(wire.profile),
        max_num_seqs=wire.max_num_seqs,
        max_model_len=wire.max_model_len,
        running=wire.running,
        waiting=wire.waiting,
        prefill_tokens_queued=wire.prefill_tokens_queued,
        kv_tokens=wire.kv_tokens,
        gpu_blocks_free=wire.gpu_blocks_free,
        gpu_blocks_total=wire.gpu_blocks_total,
        live=tuple(RequestId(request) for request in wire.live),
        draining=wire.draining,
        block_bytes=wire.block_bytes,
        prefills_queued=wire.prefills_queued,
        prefill_squares_queued=wire.prefill_squares_queued,
    )


def store_report_to_wire(report: StoreReport) -> conductor_pb2.StoreReport:
    return conductor_pb2.StoreReport(
        store=report.store,
        incarnation=report.incarnation,
        sequence=report.sequence,
        address=report.address,
        pid=report.pid,
        identity=None if report.identity is None else identity_to_wire(report.identity),
        slots_total=report.slots_total,
        slots_free=report.slots_free,
        slots_writing=report.slots_writing,
        slots_sealed=report.slots_sealed,
        leases=report.leases,
        snapshot=report.snapshot,
        gained=names_to_wire(report.gained),
        lost=names_to_wire(report.lost),
        sessions=report.sessions,
        transfer_address=report.transfer_address,
        ssd_gained=names_to_wire(report.ssd_gained),
        ssd_lost=names_to_wire(report.ssd_lost),
        ssd=None if report.ssd is None else conductor_pb2.SsdReport(**asdict(report.ssd)),
        hits=conductor_pb2.HitsReport(**asdict(report.hits)),
        owners=[conductor_pb2.OwnerReport(**asdict(owner)) for owner in report.owners],
    )


def store_report_from_wire(wire: conductor_pb2.StoreReport) -> StoreReport:
    if not wire.store:
        raise WireError("a report names its store")
    return StoreReport(
        store=StoreId(wire.store),
        incarnation=wire.incarnation,
        sequence=wire.sequence,
        address=wire.address,
        pid=wire.pid,
        identity=identity_from_wire(wire.identity) if wire.HasField("identity") else None,
        slots_total=wire.slots_total,
        slots_free=wire.slots_free,
        slots_writing=wire.slots_writing,
        slots_sealed=wire.slots_sealed,
        leases=wire.leases,
        snapshot=wire.snapshot,
        gained=names_from_wire(wire.gained),
        lost=names_from_wire(wire.lost),
        sessions=tuple(wire.sessions),
        transfer_address=wire.transfer_address,
        ssd_gained=names_from_wire(wire.ssd_gained),
        ssd_lost=names_from_wire(wire.ssd_lost),
        ssd=_ssd_from_wire(wire.ssd) if wire.HasField("ssd") else None,
        hits=HitsReport(wire.hits.asked, wire.hits.dram, wire.hits.ssd, wire.hits.peer),
        owners=tuple(OwnerReport(each.owner, each.leases, each.writing, each.set_aside) for each in wire.owners),
    )


def _ssd_from_wire(wire: conductor_pb2.SsdReport) -> SsdReport:
    return SsdReport(wire.state, wire.reason, wire.slots_total, wire.slots_held, wire.pending)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a conductor believes of its cluster, and which process it is itself; names are left out."""

    conductor: str
    pid: int
    identity: Identity | None
    handoffs: int
    workers: tuple[WorkerReport, ...]
    stores: tuple[StoreReport, ...]


def cluster_to_wire(cluster: Cluster) -> conductor_pb2.Cluster:
    return conductor_pb2.Cluster(
        conductor=cluster.conductor,
        pid=cluster.pid,
        identity=None if cluster.identity is None else identity_to_wire(cluster.identity),
        handoffs=cluster.handoffs,
        workers=map(worker_report_to_wire, cluster.workers),
        stores=map(store_report_to_wire, cluster.stores),
    )


def cluster_from_wire(wire: conductor_pb2.Cluster) -> Cluster:
    return Cluster(
        conductor=wire.conductor,
        pid=wire.pid,
        identity=identity_from_wire(wire.identity) if wire.HasField("identity") else None,
        handoffs=wire.handoffs,
        workers=tuple(map(worker_report_from_wire, wire.workers)),
        stores=tuple(map(store_report_from_wire, wire.stores)),
    )


def token_ids(ids: Sequence[int], vocab_size: int, what: str) -> list[int]:
    """The ids as a list; WireError where one is outside the vocabulary."""
    tokens = list(ids)
    if tokens and max(tokens) >= vocab_size:
        raise WireError(f"{what} has token id {max(tokens)}, and the model's vocabulary ends at {vocab_size - 1}")
    return tokens


def _request(text: str) -> RequestId:
    if not text:
        raise WireError("a request has an id")
    return RequestId(text)
