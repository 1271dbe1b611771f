"""What one batch takes by a profile: for engines that only pretend, and for the simulator.

One pass over the weights serves decodes and chunks alike, so of their two fixed costs the greater counts, once;
``scheduler.budget`` reckons the same way when it forms the batch.
"""

from scheduler import estimate
from scheduler.batch import Batch
from scheduler.vocabulary import Profile


def batch_s(profile: Profile, batch: Batch) -> float:
    """Seconds of one step. A slice of one token counts as a decode, whatever it is."""
    decodes = kv_tokens = chunks = 0
    chunk_s = 0.0
    fixed_s = profile.prefill_s[0]
    for piece in batch.slices:
        if len(piece.tokens) == 1:
            decodes += 1
            kv_tokens += piece.end
        else:
            chunks += 1
            chunk_s += estimate.prefill_s(profile, piece.end, piece.start) - fixed_s
    if not decodes:
        return fixed_s + chunk_s if chunks else 0.0
    step_s = estimate.step_s(profile, decodes, kv_tokens)
    return step_s + max(0.0, fixed_s - profile.step_s[0]) + chunk_s if chunks else step_s
