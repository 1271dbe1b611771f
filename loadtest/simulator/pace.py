"""How long an engine's steps take: what its profile says, times whatever makes this engine another."""

from itertools import accumulate

from engine.costs import batch_s
from loadtest.simulator.disturbed import Disturbed, Noise
from scheduler.batch import Batch
from scheduler.vocabulary import Profile


class Pace:
    """One host's, whoever serves there. disturbed None: its engine is as its profile says."""

    def __init__(self, profile: Profile, disturbed: Disturbed | None, worker: str) -> None:
        self.factor = 1.0
        """Of steps that begin from now on."""
        self._profile = profile
        self._noise = None if disturbed is None else Noise(disturbed, worker)

    def ends(self, batch: Batch, steps: int, *, now: float) -> list[float]:
        """When each of ``steps`` batches like this one ends; to the last bit as if they were run one by one."""
        profile = self._profile
        if steps == 1:
            noise = 1.0 if self._noise is None else self._noise.next()
            return [now + noise * self.factor * batch_s(profile, batch)]
        sequences, kv_tokens = len(batch.slices), sum(piece.end for piece in batch.slices)
        base, each, token = profile.step_s
        fixed_s, factor = base + each * sequences, self.factor
        last = kv_tokens + sequences * steps
        seconds = [factor * (fixed_s + token * tokens) for tokens in range(kv_tokens, last, sequences)]
        seconds[0] += now
        return list(accumulate(seconds))
