"""Whether a request would be served now, and if not, why: a sentence for people and probes."""

from services.gateway.front import NOBODY, STOPPING, Front
from services.wire.cluster_codec import Cluster
from services.wire.errors import PeerUnavailable


async def why_not(front: Front) -> str | None:
    """None if a request would be served: a conductor answers, and a worker lives, of whichever role."""
    if front.draining:
        return STOPPING
    try:
        cluster = await front.cluster.describe()
    except PeerUnavailable as error:
        return f"{error}."
    front.learn(cluster)
    return why_nobody_serves(cluster)


def why_nobody_serves(cluster: Cluster) -> str | None:
    """None if one of the workers does: where one role is left, it does the work of both."""
    if not cluster.workers:
        return NOBODY
    if all(worker.draining for worker in cluster.workers):
        return "Every worker is shutting down."
    return None
