"""How far off the predictions of the time to the first token were. The error is relative to what really happened."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from loadtest.record import Record


def prediction(finished: Sequence[Record]) -> dict[str, Any] | None:
    """None where nobody predicted. ratio: predicted by actual, so that below 1 is optimism."""
    pairs = [
        (record.predicted_ttft_s, record.ttft_s)
        for record in finished
        if record.predicted_ttft_s is not None and record.ttft_s
    ]
    if not pairs:
        return None
    predicted, actual = np.asarray(pairs, dtype=np.float64).T
    errors = np.abs(predicted - actual) / actual
    return {
        "requests": len(pairs),
        "median_absolute_error": float(np.median(errors)),
        "p90_absolute_error": float(np.percentile(errors, 90)),
        "median_ratio": float(np.median(predicted / actual)),
    }
