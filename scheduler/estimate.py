"""What work costs: the formulas of ``Profile``, and how a profile is fitted to measurements.

Features after Mooncake (arXiv 2407.00079, sections 5 and 6): flops(n) = l (a n^2 d + b n d^2), so a
prefill of n tokens with p cached costs over {1, n - p, n^2 - p^2}; a decode step reads the weights once
and the KV of everybody, so {1, sequences, kv tokens}; a transfer costs over {1, bytes}. Coefficients are
never negative: a negative one would price more work lower somewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from scheduler.vocabulary import Profile

FREE = Profile(prefill_s=(0.0, 0.0, 0.0), step_s=(0.0, 0.0, 0.0))
"""Everything at once: for tests, and engines that were not measured."""


def prefill_s(profile: Profile, tokens: int, cached: int = 0) -> float:
    """Seconds to compute tokens [cached, tokens) of one sequence in one go."""
    base, linear, square = profile.prefill_s
    return base + linear * (tokens - cached) + square * (tokens * tokens - cached * cached)


def step_s(profile: Profile, sequences: float, kv_tokens: float) -> float:
    """Seconds of one decode step of ``sequences`` that attend to ``kv_tokens`` in all."""
    base, each, token = profile.step_s
    return base + each * sequences + token * kv_tokens


def transfer_s(profile: Profile, size_bytes: int) -> float:
    """Seconds to lift that many bytes from the arena into device pages."""
    base, byte = profile.transfer_s
    return base + byte * size_bytes


def chunk_end(profile: Profile, start: int, spare_s: float) -> float:
    """The largest n such that tokens [start, n) take at most ``spare_s``, fixed cost left out; inf where they are free.

    Solves square n^2 + linear n = spare + linear start + square start^2 for n.
    """
    _, linear, square = profile.prefill_s
    if spare_s <= 0.0:
        return start
    known = spare_s + linear * start + square * start * start
    # The root is written without a difference of near-equal numbers, so that it holds for square -> 0 too.
    divisor = linear + sqrt(linear * linear + 4.0 * square * known)
    return 2.0 * known / divisor if divisor > 0.0 else inf


@dataclass(frozen=True, slots=True)
class PrefillSample:
    """A prefill that was measured: tokens [cached, tokens) took ``seconds``."""

    tokens: int
    cached: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StepSample:
    """A decode step that was measured."""

    sequences: int
    kv_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TransferSample:
    """A lift that was measured."""

    size_bytes: int
    seconds: float


def fit_profile(
    prefills: Sequence[PrefillSample], steps: Sequence[StepSample], transfers: Sequence[TransferSample] = ()
) -> Profile:
    """The profile that explains these measurements best, by relative error; coefficients without any are 0."""
    prefill = fit(
        [(1.0, s.tokens - s.cached, s.tokens**2 - s.cached**2) for s in prefills], [s.seconds for s in prefills], 3
    )
    step = fit([(1.0, s.sequences, s.kv_tokens) for s in steps], [s.seconds for s in steps], 3)
    transfer = fit([(1.0, s.size_bytes) for s in transfers], [s.seconds for s in transfers], 2)
    return Profile(
        prefill_s=(prefill[0], prefill[1], prefill[2]),
        step_s=(step[0], step[1], step[2]),
        transfer_s=(transfer[0], transfer[1]),
    )


def fit(features: Sequence[Sequence[float]], seconds: Sequence[float], width: int) -> list[float]:
    """Non-negative least squares over ``width`` features; each row counts by its relative error. All seconds are > 0.

    With two or three features the active set is found by trying them all: the best non-negative solution is the
    ordinary one on some subset of the columns (Lawson and Hanson, ch. 23), and there are at most seven.
    """
    if not features:
        return [0.0] * width
    measured = np.asarray(seconds, dtype=np.float64)
    assert (measured > 0.0).all(), "a measurement of no time says nothing"
    rows: NDArray[np.float64] = np.asarray(features, dtype=np.float64) / measured[:, None]
    scale = np.maximum(np.abs(rows).max(axis=0), np.finfo(np.float64).tiny)  # 1 beside n^2 is badly conditioned
    rows, ones = rows / scale, np.ones_like(measured)
    best, least = np.zeros(width), float(measured.size)
    for size in range(1, width + 1):
        for columns in combinations(range(width), size):
            chosen = list(columns)
            solution = np.linalg.lstsq(rows[:, chosen], ones, rcond=None)[0]
            error = float(((rows[:, chosen] @ solution - ones) ** 2).sum())
            if (solution >= 0.0).all() and error < least:
                best, least = np.zeros(width), error
                best[chosen] = solution
    return [float(value) for value in best / scale]
