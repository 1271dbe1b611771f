"""The most that there was at once: requests in flight, tokens within a second."""

from collections.abc import Sequence

import numpy as np

from loadtest.metrics.timing import output_tokens
from loadtest.record import Record


def concurrent(records: Sequence[Record]) -> int:
    """The most requests that were sent and not over at one moment. One that ends as another is sent makes room."""
    changes = sorted([(record.sent_s, 1) for record in records] + [(record.ended_s, -1) for record in records])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def tokens_per_s(records: Sequence[Record]) -> float:
    """The most output tokens in any whole second of the run.

    Chunks that didn't say how many tokens they brought share what the server counted evenly.
    """
    times, weights = [], []
    for record in records:
        known = sum(chunk.tokens for chunk in record.chunks)
        share = output_tokens(record) / known if known else 0.0
        times += [record.sent_s + chunk.at_s for chunk in record.chunks]
        weights += [chunk.tokens * share for chunk in record.chunks]
    if not times:
        return 0.0
    return float(np.bincount(np.asarray(times).astype(np.int64), weights=np.asarray(weights)).max())
