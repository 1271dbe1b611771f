"""Who was there and is not any more, as far as this gateway has seen. Pure: clusters and times go in.

What conductors believe has no trace of a worker that died, so whoever looks at it cannot tell a cluster of two from
one of three that has lost one. Who took its leave (it was draining) is not missed, and nobody is for ever.
"""

from dataclasses import dataclass

from services.wire.cluster_codec import Cluster

MISSED_S = 600.0
"""Who has not come back by then has another name now, or is not to."""

BLINK_S = 1.0
"""A conductor that restarts hears of everybody again within this time."""


@dataclass(frozen=True, slots=True)
class Gone:
    """role: of a worker; ``store`` otherwise. for_s: since it was last there."""

    id: str
    role: str
    for_s: float


class Roll:
    """Called whenever a cluster is described."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, float]] = {}

    def call(self, cluster: Cluster, *, now: float) -> None:
        for worker in cluster.workers:
            if worker.draining:
                self._seen.pop(worker.worker, None)
            else:
                self._seen[worker.worker] = worker.role.value, now
        for store in cluster.stores:
            self._seen[store.store] = "store", now
        self._seen = {name: (role, at) for name, (role, at) in self._seen.items() if now - at < MISSED_S}

    def gone(self, *, now: float) -> list[Gone]:
        """The longest first."""
        missed = [Gone(name, role, now - at) for name, (role, at) in self._seen.items() if now - at >= BLINK_S]
        return sorted(missed, key=lambda each: -each.for_s)
