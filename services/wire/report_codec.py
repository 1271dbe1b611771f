"""Translate what workers and stores tell conductors, and what they are told in answer; the same rules as codec."""

import math
from dataclasses import asdict

from kvstore.digest import Digest
from scheduler.vocabulary import (
    Carried,
    CopyOrder,
    Digests,
    HitsReport,
    OwnerReport,
    Profile,
    RequestId,
    Role,
    SsdReport,
    StoreId,
    StoreReport,
    WorkerId,
    WorkerReport,
)
from services.wire.codec import (
    identity_from_wire,
    identity_to_wire,
    names_from_wire,
    names_to_wire,
    store_target_from_wire,
    store_target_to_wire,
)
from services.wire.errors import WireError
from services.wire.pb import common_pb2, conductor_pb2

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
        device_blocks_free=report.device_blocks_free,
        device_blocks_total=report.device_blocks_total,
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
        device_blocks_free=wire.device_blocks_free,
        device_blocks_total=wire.device_blocks_total,
        live=tuple(RequestId(request) for request in wire.live),
        draining=wire.draining,
        block_bytes=wire.block_bytes,
        prefills_queued=wire.prefills_queued,
        prefill_squares_queued=wire.prefill_squares_queued,
    )


def copy_order_to_wire(order: CopyOrder) -> conductor_pb2.CopyOrder:
    source = store_target_to_wire(order.source)
    return conductor_pb2.CopyOrder(
        id=order.id, names=names_to_wire(order.names), source=source, within_s=order.within_s
    )


def copy_order_from_wire(wire: conductor_pb2.CopyOrder) -> CopyOrder:
    names = names_from_wire(wire.names)
    if not names:
        raise WireError("a store is told to copy nothing")
    if not (math.isfinite(wire.within_s) and wire.within_s > 0):
        raise WireError(f"a copy is given more than 0 s, not {wire.within_s}")
    return CopyOrder(wire.id, names, store_target_from_wire(wire.source), wire.within_s)


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
        digests=None if report.digests is None else _digests_to_wire(report.digests),
        owners=[conductor_pb2.OwnerReport(**asdict(owner)) for owner in report.owners],
        carried=map(_carried_to_wire, report.carried),
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
        digests=_digests_from_wire(wire.digests) if wire.HasField("digests") else None,
        owners=tuple(OwnerReport(each.owner, each.leases, each.writing, each.set_aside) for each in wire.owners),
        carried=tuple(map(_carried_from_wire, wire.carried)),
    )


def _carried_to_wire(carried: Carried) -> conductor_pb2.Carried:
    return conductor_pb2.Carried(source=carried.source or "", size_bytes=carried.size_bytes, seconds=carried.seconds)


def _carried_from_wire(wire: conductor_pb2.Carried) -> Carried:
    if not (math.isfinite(wire.seconds) and wire.seconds > 0 and wire.size_bytes):
        raise WireError(f"bytes take more than 0 s to be carried, not {wire.size_bytes} in {wire.seconds} s")
    return Carried(StoreId(wire.source) if wire.source else None, wire.size_bytes, wire.seconds)


def _digests_to_wire(digests: Digests) -> conductor_pb2.Digests:
    dram, ssd = digests.dram, digests.ssd
    return conductor_pb2.Digests(names=dram.names, bits=dram.bits, ssd_names=ssd.names, ssd_bits=ssd.bits)


def _digests_from_wire(wire: conductor_pb2.Digests) -> Digests:
    return Digests(Digest(wire.names, wire.bits), Digest(wire.ssd_names, wire.ssd_bits))


def _ssd_from_wire(wire: conductor_pb2.SsdReport) -> SsdReport:
    return SsdReport(wire.state, wire.reason, wire.slots_total, wire.slots_held, wire.pending)
