"""How full each role's workers are during a run, from a Moonpool's status page."""

from typing import Any

from loadtest.record import PoolSample


def samples(status: dict[str, Any], *, at_s: float) -> list[PoolSample]:  # Any: JSON
    """One for each role that there is, in the order in which they are listed."""
    roles: dict[str, list[dict[str, Any]]] = {}
    for worker in status["workers"]:
        roles.setdefault(str(worker["role"]), []).append(worker)
    return [
        PoolSample(
            at_s,
            role,
            len(workers),
            sum(int(worker["running"]) for worker in workers),
            sum(int(worker["waiting"]) for worker in workers),
            kv_used=_used(workers),
            queued_tokens=sum(int(worker["prefill_tokens_queued"]) for worker in workers),
        )
        for role, workers in roles.items()
    ]


def _used(workers: list[dict[str, Any]]) -> float | None:
    total = sum(int(worker["device_blocks_total"]) for worker in workers)
    free = sum(int(worker["device_blocks_free"]) for worker in workers)
    return (total - free) / total if total else None
