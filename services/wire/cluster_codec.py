"""Translate what a conductor believes of its whole cluster, for status pages; the same rules as codec."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvstore.layout import Identity
from scheduler.predictions import NOTHING_KNOWN, Agreement
from scheduler.vocabulary import StoreReport, WorkerReport
from services.wire.codec import identity_from_wire, identity_to_wire
from services.wire.errors import WireError
from services.wire.pb import conductor_pb2
from services.wire.report_codec import (
    store_report_from_wire,
    store_report_to_wire,
    worker_report_from_wire,
    worker_report_to_wire,
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a conductor believes of its cluster, and which process it is itself; names are left out.

    placements: how many were handed over, or not, by why. ttft, tpot: what was predicted beside what happened.
    refused: for being late.
    """

    conductor: str
    pid: int
    identity: Identity | None
    handoffs: int
    workers: tuple[WorkerReport, ...]
    stores: tuple[StoreReport, ...]
    placements: Mapping[str, int] = field(default_factory=dict)
    ttft: Agreement = NOTHING_KNOWN.ttft
    tpot: Agreement = NOTHING_KNOWN.tpot
    refused: int = 0
    role_changes: int = 0


def cluster_to_wire(cluster: Cluster) -> conductor_pb2.Cluster:
    return conductor_pb2.Cluster(
        conductor=cluster.conductor,
        pid=cluster.pid,
        identity=None if cluster.identity is None else identity_to_wire(cluster.identity),
        handoffs=cluster.handoffs,
        workers=map(worker_report_to_wire, cluster.workers),
        stores=map(store_report_to_wire, cluster.stores),
        placements=cluster.placements,
        ttft=_agreement_to_wire(cluster.ttft),
        tpot=_agreement_to_wire(cluster.tpot),
        refused=cluster.refused,
        role_changes=cluster.role_changes,
    )


def cluster_from_wire(wire: conductor_pb2.Cluster) -> Cluster:
    """Raises WireError."""
    if not wire.conductor:
        raise WireError("a conductor says its name")
    return Cluster(
        conductor=wire.conductor,
        pid=wire.pid,
        identity=identity_from_wire(wire.identity) if wire.HasField("identity") else None,
        handoffs=wire.handoffs,
        workers=tuple(map(worker_report_from_wire, wire.workers)),
        stores=tuple(map(store_report_from_wire, wire.stores)),
        placements=dict(wire.placements),
        ttft=_agreement_from_wire(wire.ttft),
        tpot=_agreement_from_wire(wire.tpot),
        refused=wire.refused,
        role_changes=wire.role_changes,
    )


def _agreement_to_wire(agreement: Agreement) -> conductor_pb2.Predicted:
    return conductor_pb2.Predicted(
        count=agreement.count, ratio=agreement.ratio, error=agreement.error, bound=agreement.bound
    )


def _agreement_from_wire(wire: conductor_pb2.Predicted) -> Agreement:
    return Agreement(
        count=wire.count,
        ratio=wire.ratio if wire.HasField("ratio") else None,
        error=wire.error if wire.HasField("error") else None,
        bound=wire.bound,
    )
