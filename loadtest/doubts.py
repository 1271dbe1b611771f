"""What makes a run's figures doubtful, each a sentence: told beside them, since nobody looks for it afterwards."""

from collections.abc import Sequence

import numpy as np

from loadtest.record import Record

BUSY = 0.9
"""Of a core that the harness took; it runs on one."""

LATE_S = 0.010
"""Lag at p99. Timers wake within 1 to 2 ms, so this is work that waited for the harness."""


def doubts(
    records: Sequence[Record], *, cpu_share: float, paced: bool, exact_output: bool = True, longest: int | None = None
) -> list[str]:
    """paced: requests had times to be sent at. longest: tokens that the server's context has."""
    found = []
    lags = [record.lag_s for record in records]
    if paced and lags and (late_s := float(np.percentile(lags, 99))) > LATE_S:
        found.append(
            f"the harness sent requests {late_s * 1000:.0f} ms late (p99), so the load was not what was asked for: "
            "lower the rate, or give it a core of its own"
        )
    if cpu_share > BUSY:
        found.append(
            f"the harness took {cpu_share:.0%} of a core, about all that it can: it may be slower than the server, and "
            "what it measures may be too high"
        )
    told = [record for record in records if record.finished and record.prompt_tokens is not None]
    other = [record for record in told if record.prompt_tokens != record.input_tokens]
    if other:
        found.append(
            f"of {len(told)} prompts the server counts {len(other)} otherwise than the workload has them, such as "
            f"{other[0].prompt_tokens} tokens for {other[0].input_tokens}"
        )
    short = [
        r for r in records if r.finished and r.completion_tokens is not None and r.completion_tokens < r.max_tokens
    ]
    if exact_output and short:
        found.append(f"{len(short)} answers were shorter than asked for: the server does not do as ignore_eos says")
    if longest is not None:
        too_long = sum(record.input_tokens + record.max_tokens > longest for record in records)
        if too_long:
            found.append(
                f"{too_long} requests were longer than the model's {longest} tokens, so they could not be served; "
                "--longest leaves them out"
            )
    return found
