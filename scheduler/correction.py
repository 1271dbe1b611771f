"""A profile that follows what really happens: measured at warm-up, corrected by every step that runs.

Each kind of work keeps a decayed Gram matrix of its features over relative errors, and the coefficients are the
non-negative least squares of that. Plain recursive least squares would wind up where the same batch runs
again and again, and go negative; here old samples fade, and the warm-up profile stays in as a few samples that
never do. A step that stalled for another reason weighs little: its features count divided by its seconds.

A prompt is predicted as a whole and computed in chunks, each of which costs its pass over the weights. So the fixed
cost is counted once a prompt here, with the chunk that ends it: what the other chunks' passes cost is then found in the
cost of a token, and the chunks of a prompt add up to what is predicted for it.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
from math import inf

import numpy as np
from numpy.typing import NDArray

from scheduler.batch import Batch
from scheduler.vocabulary import Profile

MEMORY = 0.998
"""What a sample still counts after another: the last five hundred steps, some ten seconds of decoding."""

PREFILL_MEMORY = 0.99
"""The same of prefill: the last hundred steps, which are 25 s of a busy worker. A machine that is slower with others at
work on it (a third, measured on two cores that also run the clients) is known for that within seconds."""

HELD = 10.0
"""Samples that the warm-up profile is worth."""

PREFILL_HELD = 2.0
"""The same as ``HELD`` for prefill, of fewer samples: a fiftieth of them in the long run."""

LATELY_S = 0.1
"""Solving for it takes a step's tenth, and a report is made so often."""

SHORTEST_S = 1e-6
"""Below a microsecond a clock tells nothing."""

PREFILLS = ((1, 64, 64**2), (1, 512, 512**2), (1, 2048, 2048**2), (1, 2048, 8192**2 - 6144**2))
"""Features of chunks at which the warm-up profile is believed: short, long, and deep into a prompt."""

STEPS = ((1, 1, 512), (1, 8, 8 * 512), (1, 8, 8 * 4096), (1, 64, 64 * 1024))
LIFTS = ((1, 1 << 20), (1, 16 << 20), (1, 256 << 20))


class Fit:
    """Coefficients of one kind of work. known: its warm-up coefficients; typical: features at which those hold."""

    def __init__(
        self, known: Sequence[float], typical: Sequence[Sequence[float]], *, memory: float = MEMORY, held: float = HELD
    ) -> None:
        self._memory = memory
        self._known = np.asarray(known, dtype=np.float64)
        width = len(self._known)
        self._gram: NDArray[np.float64] = np.zeros((width, width))
        self._right: NDArray[np.float64] = np.zeros(width)
        self._held_gram, self._held_right = self._gram.copy(), self._right.copy()
        self.samples = 0
        for row in typical:
            features = np.asarray(row, dtype=np.float64)
            seconds = float(features @ self._known)
            if seconds > 0.0:
                self._held_gram += held / len(typical) * np.outer(features, features) / seconds**2
                self._held_right += held / len(typical) * features / seconds

    def add(self, features: Sequence[float], seconds: float) -> None:
        """Work with these features took so long."""
        if seconds < SHORTEST_S:
            return
        row = np.asarray(features, dtype=np.float64) / seconds
        self._gram = self._memory * self._gram + np.outer(row, row)
        self._right = self._memory * self._right + row
        self.samples += 1

    def coefficients(self) -> list[float]:
        """Every one at least 0. Those of the warm-up where nothing was measured, or too little without a profile."""
        if not self.samples or (not self._known.any() and self.samples < HELD):
            return [float(value) for value in self._known]
        gram, right = self._gram + self._held_gram, self._right + self._held_right
        scale = np.sqrt(np.maximum(np.diag(gram), np.finfo(np.float64).tiny))  # 1 beside n^2 is badly conditioned
        gram, right = gram / np.outer(scale, scale), right / scale
        return [float(value) for value in _non_negative(gram, right) / scale]


def _non_negative(gram: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """The c >= 0 with the least c.gram.c - 2 right.c: on some subset of the columns, and there are at most seven."""
    best, least = np.zeros(len(right)), 0.0
    for size in range(1, len(right) + 1):
        for columns in combinations(range(len(right)), size):
            chosen = list(columns)
            solution = np.linalg.lstsq(gram[np.ix_(chosen, chosen)], right[chosen], rcond=None)[0]
            cost = float(solution @ gram[np.ix_(chosen, chosen)] @ solution - 2.0 * right[chosen] @ solution)
            if (solution >= 0.0).all() and cost < least:
                best, least = np.zeros(len(right)), cost
                best[chosen] = solution
    return best


class Correction:
    """One worker's profile. Told of steps that did one kind of work: what a mixed step spent on which is not known.

    ``lately`` is what the worker goes by and what it reports, the same to both.
    """

    def __init__(self, profile: Profile) -> None:
        self._prefill = Fit(profile.prefill_s, PREFILLS, memory=PREFILL_MEMORY, held=PREFILL_HELD)
        self._step = Fit(profile.step_s, STEPS)
        self._lift = Fit(profile.transfer_s, LIFTS)
        self._profile, self._of = profile, 0
        self._lately_s = -inf

    def ran(self, batch: Batch, seconds: float) -> None:
        """A step took so long. A slice of one token counts as a decode, whatever it is."""
        decodes = [piece for piece in batch.slices if len(piece.tokens) == 1]
        if not decodes:
            ended = sum(piece.sampling is not None for piece in batch.slices)
            self.prefilled([(piece.start, piece.end) for piece in batch.slices], seconds, ended=ended)
        elif len(decodes) == len(batch.slices):
            self.stepped(len(decodes), sum(piece.end for piece in decodes), seconds)

    def prefilled(self, chunks: Iterable[tuple[int, int]], seconds: float, *, ended: int = 1) -> None:
        """One step computed tokens [start, end) of some sequences, and nothing else; so many prompts ended with it."""
        pairs = list(chunks)
        squares = sum(end * end - start * start for start, end in pairs)
        self._prefill.add((ended, sum(end - start for start, end in pairs), squares), seconds)

    def stepped(self, sequences: int, kv_tokens: int, seconds: float) -> None:
        """One step gave each of so many sequences a token, and did nothing else."""
        self._step.add((1, sequences, kv_tokens), seconds)

    def lifted(self, size_bytes: int, seconds: float) -> None:
        self._lift.add((1, size_bytes), seconds)

    @property
    def known(self) -> Profile:
        """As of when it was computed last; costs nothing."""
        return self._profile

    def lately(self, *, now: float) -> Profile:
        """As of now, or of ``LATELY_S`` ago at most."""
        if now - self._lately_s < LATELY_S:
            return self._profile
        self._lately_s = now
        return self.profile()

    def profile(self) -> Profile:
        """As of now; computed when it is asked for and something was measured since."""
        samples = self._prefill.samples + self._step.samples + self._lift.samples
        if samples != self._of:
            prefill, step, lift = (each.coefficients() for each in (self._prefill, self._step, self._lift))
            self._profile = Profile(
                (prefill[0], prefill[1], prefill[2]), (step[0], step[1], step[2]), (lift[0], lift[1])
            )
            self._of = samples
        return self._profile
