"""What became of each request, and of all together.

TBT of a request is the mean of its longest tenth of gaps between tokens (at least one gap), and a request is
good when it finished within both SLOs: both as in Mooncake's FAST'25 paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loadtest.metrics.timing import tbt_s as tbt_s


@dataclass(slots=True)
class Record:
    """One request that was offered; its story fills it in, and nobody changes it once that is over.

    asked_s: when it came, in virtual seconds. ttft_s None: it had no first token. tbt_s None: fewer than two
    tokens. ended_s None: its client left midway (``left``), or it was rejected, for ``rejected``, with the code
    ``rejected_as``; where it had a first token, after its prefill. cached_tokens: of the prompt, reused at its first
    prefill; cached_blocks: whole ones of ``blocks``, a partial last one counted as a block. times_s: of its tokens,
    since it was asked; only where the simulation keeps them. retry_after_s: what a rejection said; told_s: the times at
    which it was told to come again, where clients do, and asked_s is then that of the last try.
    """

    place: int
    asked_s: float
    input_tokens: int
    output_tokens: int
    blocks: int
    cached_tokens: int = 0
    cached_blocks: int = 0
    ttft_s: float | None = None
    tbt_s: float | None = None
    ended_s: float | None = None
    rejected: str | None = None
    rejected_as: str | None = None
    left: bool = False
    predicted_ttft_s: float | None = None
    prefill: str | None = None
    decode: str | None = None
    placements: int = 1
    retry_after_s: float | None = None
    told_s: tuple[float, ...] = ()
    times_s: tuple[float, ...] = ()

    def within(self, ttft_slo_s: float | None, tbt_slo_s: float | None) -> bool:
        """It finished, and within both; an SLO of None is always kept."""
        if self.ended_s is None or self.ttft_s is None:
            return False
        late = ttft_slo_s is not None and self.ttft_s > ttft_slo_s
        slow = tbt_slo_s is not None and self.tbt_s is not None and self.tbt_s > tbt_slo_s
        return not (late or slow)


def distribution(values: Sequence[float]) -> dict[str, float | None]:
    """Of seconds, rounded to microseconds; nulls where there are none."""
    if not values:
        return dict.fromkeys(("mean", "p50", "p90", "p99"))
    array = np.asarray(values)
    points = dict(zip(("p50", "p90", "p99"), np.percentile(array, [50, 90, 99]).tolist(), strict=True))
    return {name: round(value, 6) for name, value in {"mean": float(array.mean()), **points}.items()}


def summary(
    records: Sequence[Record], *, ttft_slo_s: float | None, tbt_slo_s: float | None, seed: int, wall_s: float
) -> dict[str, Any]:  # Any: JSON
    """The document of ``moonpool simulate --json``."""
    prefilled = [record for record in records if record.ttft_s is not None]
    blocks, tokens = sum(each.blocks for each in prefilled), sum(each.input_tokens for each in prefilled)
    good = sum(record.within(ttft_slo_s, tbt_slo_s) for record in records)
    return {
        "requests": len(records),
        "completed": sum(record.ended_s is not None for record in records),
        "rejected": sum(record.rejected is not None for record in records),
        "ttft_s": distribution([record.ttft_s for record in records if record.ttft_s is not None]),
        "tbt_s": distribution([record.tbt_s for record in records if record.tbt_s is not None]),
        "goodput": round(good / len(records), 6) if records else 0.0,
        "hit_rate": {
            "block": round(sum(each.cached_blocks for each in prefilled) / blocks, 6) if blocks else 0.0,
            "token": round(sum(each.cached_tokens for each in prefilled) / tokens, 6) if tokens else 0.0,
        },
        "wall_s": round(wall_s, 3),
        "seed": seed,
    }
