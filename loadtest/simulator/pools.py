"""How full both pools are at one moment."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loadtest.simulator.worker import Worker


@dataclass(frozen=True, slots=True)
class Sample:
    """The mean of each pool's workers: prefill seconds queued, seconds of a decode step."""

    at_s: float
    queued_s: float
    step_s: float


def sample(workers: Iterable[Worker], *, now: float) -> Sample:
    """Mixed workers are in both pools."""
    workers = list(workers)
    queued_s = [worker.queued_s for worker in workers if worker.role.prefills]
    step_s = [worker.step_s for worker in workers if worker.role.decodes]
    return Sample(now, _mean(queued_s), _mean(step_s))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
