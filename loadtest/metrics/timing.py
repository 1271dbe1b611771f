"""One request's times, as ``vllm bench serve`` defines them, and the papers' TBT. All from the client's side.

    sent        first chunk        chunk            last chunk
     |--- TTFT ----|------ gap ------|------ gap ------|          ITL: each gap;  TBT: mean of the longest tenth
     |---------------------- E2EL ---------------------|          TPOT: (E2EL - TTFT) / (tokens - 1)

Chunks are those with content: roles, usage and empty texts bring no token. A chunk of several tokens is one gap.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from loadtest.record import Record

LONGEST = 10
"""One in so many gaps, the longest, makes TBT: the FAST'25 paper's longest 10 %."""


def output_tokens(record: Record) -> int:
    """As the server counts; where it doesn't, what the chunks are known to have brought."""
    if record.completion_tokens is not None:
        return record.completion_tokens
    return sum(chunk.tokens for chunk in record.chunks)


def input_tokens(record: Record) -> int:
    """As the server counts, else as the workload has it."""
    return record.input_tokens if record.prompt_tokens is None else record.prompt_tokens


def e2el_s(record: Record) -> float | None:
    """From sending it to the last chunk with tokens; what came after that is nobody's wait."""
    return record.chunks[-1].at_s if record.chunks else None


def tpot_s(record: Record) -> float | None:
    """None where there was at most one token: nothing came between."""
    if (tokens := output_tokens(record)) <= 1 or not record.chunks:
        return None
    return (record.chunks[-1].at_s - record.chunks[0].at_s) / (tokens - 1)


def itls_s(record: Record) -> list[float]:
    return [later.at_s - earlier.at_s for earlier, later in pairwise(record.chunks)]


def request_tbt_s(record: Record) -> float | None:
    return tbt_s([chunk.at_s for chunk in record.chunks])


def tbt_s(times: Sequence[float]) -> float | None:
    """Of tokens that came at these times: the mean of the longest tenth of gaps, of at least one."""
    if len(times) < 2:
        return None
    gaps = np.sort(np.diff(np.asarray(times)))
    return float(gaps[-max(1, len(gaps) // LONGEST) :].mean())
