"""Whether a request would be served now, and if not, why: a sentence for people and probes."""

from services.gateway.front import STOPPING, Front
from services.wire.cluster_codec import Cluster
from services.wire.errors import PeerUnavailable


async def why_not(front: Front) -> str | None:
    """None if a request would be served: a conductor answers, and a worker that decodes lives."""
    if front.draining:
        return STOPPING
    try:
        cluster = await front.cluster.describe()
    except PeerUnavailable as error:
        return f"{error}."
    front.learn(cluster)
    return why_nobody_decodes(cluster)


def why_nobody_decodes(cluster: Cluster) -> str | None:
    """None if one of the workers does."""
    if not cluster.workers:
        return "No worker lives."
    decoders = [worker for worker in cluster.workers if worker.role.decodes]
    if not decoders:
        return "No worker that decodes lives; there are only prefill workers."
    if all(worker.draining for worker in decoders):
        return "Every worker that decodes is shutting down."
    return None
