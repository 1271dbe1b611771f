"""Whether the workers that are left do each other's work: one role has none, so the other serves alone, and slower."""

from collections.abc import Iterable

from scheduler.vocabulary import WorkerReport


def degraded(workers: Iterable[WorkerReport]) -> str | None:
    """A sentence for the operator; None where both roles are filled, or nobody serves at all."""
    serving = [worker for worker in workers if not worker.draining]
    if not serving:
        return None
    if not any(worker.role.decodes for worker in serving):
        return "No decode worker lives: prefill workers decode what they prefill."
    if not any(worker.role.prefills for worker in serving):
        return "No prefill worker lives: decode workers prefill inline."
    return None
