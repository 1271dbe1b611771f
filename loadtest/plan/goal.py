"""What is to be kept, and what a cluster made of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.simulator.record import Record


@dataclass(frozen=True, slots=True)
class Goal:
    """Within both SLOs, for this share of all requests. tbt_s: of a request, the mean of its longest tenth of gaps."""

    ttft_s: float
    tbt_s: float
    goodput: float

    def __str__(self) -> str:
        return f"TTFT {self.ttft_s:g} s and TBT {self.tbt_s:g} s for {100 * self.goodput:g} % of requests"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one cluster. late, slow: shares of requests that missed the TTFT, and the TBT. given_up: the simulation was
    ended when too many had missed, so figures are of those until then and the goodput is what was still possible."""

    prefill: int
    decode: int
    dram_bytes: int
    goodput: float
    late: float
    slow: float
    mean_ttft_s: float | None
    p99_ttft_s: float | None
    p99_tbt_s: float | None
    hit_rate: float
    given_up: bool

    @property
    def nodes(self) -> int:
        return self.prefill + self.decode


def verdict(
    records: Sequence[Record], offered: int, goal: Goal, *, prefill: int, decode: int, dram_bytes: int, given_up: bool
) -> Verdict:
    """records: of all that are over, of so many ``offered``."""
    missed = sum(not record.within(goal.ttft_s, goal.tbt_s) for record in records)
    ttfts = [record.ttft_s for record in records if record.ttft_s is not None]
    tbts = [record.tbt_s for record in records if record.tbt_s is not None]
    blocks = sum(record.blocks for record in records)
    return Verdict(
        prefill,
        decode,
        dram_bytes,
        goodput=1 - missed / offered,
        late=sum(each > goal.ttft_s for each in ttfts) / max(1, len(records)),
        slow=sum(each > goal.tbt_s for each in tbts) / max(1, len(records)),
        mean_ttft_s=float(np.mean(ttfts)) if ttfts else None,
        p99_ttft_s=float(np.percentile(ttfts, 99)) if ttfts else None,
        p99_tbt_s=float(np.percentile(tbts, 99)) if tbts else None,
        hit_rate=sum(record.cached_blocks for record in records) / max(1, blocks),
        given_up=given_up,
    )
