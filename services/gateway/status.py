"""What the deployment is doing, as one JSON document: the base of ``moonpool status``."""

from dataclasses import asdict
from typing import Any

from scheduler.degraded import degraded
from scheduler.vocabulary import HitsReport, StoreReport, WorkerReport
from services.gateway.errors import unavailable
from services.gateway.front import Front
from services.gateway.health import why_nobody_serves


async def status(front: Front) -> dict[str, Any]:
    """Raises ApiError where no conductor answers: there is nobody else who knows."""
    clusters = await front.cluster.describe_all()
    if not clusters:
        raise unavailable("No conductor answers.")
    cluster = clusters[0]
    front.learn(cluster)
    identity = cluster.identity
    return {
        "model": front.settings.model,
        "fingerprint": identity.fingerprint.hex() if identity else None,
        "dtype": identity.dtype if identity else None,
        "block_tokens": identity.block_tokens if identity else None,
        "max_model_len": front.longest,
        "handoffs": cluster.handoffs,
        "placements": dict(cluster.placements),
        "refused": cluster.refused,
        "role_changes": cluster.role_changes,
        "predictions": {"ttft": asdict(cluster.ttft), "tpot": asdict(cluster.tpot)},
        "not_serving": why_nobody_serves(cluster),
        "degraded": degraded(cluster.workers),
        "gone": [{"id": gone.id, "role": gone.role, "for_s": round(gone.for_s, 1)} for gone in front.gone],
        "unusable": [
            {"id": each.worker, "because": each.because, "for_s": round(for_s, 1)}
            for each, for_s in front.cluster.unusable()
        ],
        "workers": [_worker(worker) for worker in cluster.workers],
        "stores": [_store(store) for store in cluster.stores],
        "conductors": [{"id": each.conductor, "pid": each.pid} for each in clusters],
        "gateways": [{"id": front.settings.id, "pid": front.settings.pid, "running": front.told}],
    }


def _worker(report: WorkerReport) -> dict[str, Any]:
    return {
        "id": report.worker,
        "role": report.role.value,
        "pid": report.pid,
        "address": report.address,
        "store": report.store,
        "model": report.identity.model,
        "running": report.running,
        "waiting": report.waiting,
        "prefill_tokens_queued": report.prefill_tokens_queued,
        "kv_tokens": report.kv_tokens,
        "device_blocks_free": report.device_blocks_free,
        "device_blocks_total": report.device_blocks_total,
        "max_num_seqs": report.max_num_seqs,
        "max_model_len": report.max_model_len,
        "draining": report.draining,
    }


def _store(report: StoreReport) -> dict[str, Any]:
    return {
        "id": report.store,
        "pid": report.pid,
        "address": report.address,
        "slots_total": report.slots_total,
        "slots_free": report.slots_free,
        "slots_writing": report.slots_writing,
        "slots_sealed": report.slots_sealed,
        "leases": report.leases,
        "sessions": len(report.sessions),
        "transfer_address": report.transfer_address or None,
        "ssd": None if report.ssd is None else asdict(report.ssd),
        "ssd_pending": 0 if report.ssd is None else report.ssd.pending,  # one place to look at, with an SSD or without
        "hits": asdict(report.hits),
        "hit_rates": _rates(report.hits),
        "owners": [asdict(owner) for owner in report.owners],
    }


def _rates(hits: HitsReport) -> dict[str, float | None]:
    """The share of the names that lookups asked for, by where they were found; None before the first."""
    found = {"dram": hits.dram, "ssd": hits.ssd, "peer": hits.peer}
    return {tier: round(count / hits.asked, 4) if hits.asked else None for tier, count in found.items()}
