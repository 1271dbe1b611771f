"""Which tokens a prompt has: a pure function of the workload's spans and a seed, over a vocabulary that is safe.

A span's token at a position follows from (seed, content, position) alone. So spans of one content are equal wherever
they stand, a shorter one is the beginning of a longer one, and no table of them is kept. The same seed gives the same
prompts at any server with the same vocabulary, which is what comparing two of them needs.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from loadtest.request import Span

Draws = npt.NDArray[np.int64]

# SplitMix64 (Steele, Lea, Flood 2014): the increment is 2**64 by the golden ratio, the rest is its finalizer.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def drawn(span: Span, size: int, *, seed: int) -> Draws:
    """``span.tokens`` numbers below ``size``, at least 1 and at most 2**32."""
    assert 1 <= size <= 1 << 32, "no vocabulary"
    with np.errstate(over="ignore"):
        base = _mixed(np.asarray([seed % (1 << 64)], dtype=np.uint64) + np.uint64(span.content) * _STEP)
        steps = np.arange(1, span.tokens + 1, dtype=np.uint64) * _STEP
        bits = _mixed(base + steps) >> np.uint64(32)
        # The upper half times size, its upper half again: below size, without a division, even to within 2**-32.
        return ((bits * np.uint64(size)) >> np.uint64(32)).astype(np.int64)


def token_ids(
    prompt: Iterable[Span], vocabulary: Sequence[int], *, seed: int, said: Mapping[int, Sequence[int]] | None = None
) -> list[int]:
    """said: by content, tokens that really are what a span stands for, such as an answer that was given before.

    Where fewer were said than the span has, the rest is drawn as ever.
    """
    words = np.asarray(vocabulary, dtype=np.int64)
    parts = []
    for span in prompt:
        part = words[drawn(span, len(words), seed=seed)]
        if said and (real := said.get(span.content)):
            known = np.asarray(real[: span.tokens], dtype=np.int64)
            part[: len(known)] = known
        parts.append(part)
    ids: list[int] = np.concatenate(parts).tolist()
    return ids


def text(prompt: Sequence[Span], pieces: Sequence[str], *, seed: int, without: int = 0) -> str:
    """A piece for each token, but for the last ``without``, which whatever is put around it takes; one piece at least.

    The end is shortened, and not the beginning, since who shares a prompt shares its beginning.
    """
    places = np.concatenate([drawn(span, len(pieces), seed=seed) for span in prompt])
    return "".join(pieces[place] for place in places[: max(1, len(places) - without)])


def _mixed(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX[0]
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX[1]
    return bits ^ (bits >> np.uint64(31))
