"""Translate what a conductor believes of its whole cluster, for status pages; the same rules as codec."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvstore.layout import Identity
from scheduler.vocabulary import StoreReport, WorkerReport
from services.wire.codec import identity_from_wire, identity_to_wire
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

    placements: how many were handed over, or not, by why.
    """

    conductor: str
    pid: int
    identity: Identity | None
    handoffs: int
    workers: tuple[WorkerReport, ...]
    stores: tuple[StoreReport, ...]
    placements: Mapping[str, int] = field(default_factory=dict)


def cluster_to_wire(cluster: Cluster) -> conductor_pb2.Cluster:
    return conductor_pb2.Cluster(
        conductor=cluster.conductor,
        pid=cluster.pid,
        identity=None if cluster.identity is None else identity_to_wire(cluster.identity),
        handoffs=cluster.handoffs,
        workers=map(worker_report_to_wire, cluster.workers),
        stores=map(store_report_to_wire, cluster.stores),
        placements=cluster.placements,
    )


def cluster_from_wire(wire: conductor_pb2.Cluster) -> Cluster:
    return Cluster(
        conductor=wire.conductor,
        pid=wire.pid,
        identity=identity_from_wire(wire.identity) if wire.HasField("identity") else None,
        handoffs=wire.handoffs,
        workers=tuple(map(worker_report_from_wire, wire.workers)),
        stores=tuple(map(store_report_from_wire, wire.stores)),
        placements=dict(wire.placements),
    )
