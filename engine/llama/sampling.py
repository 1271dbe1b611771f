"""Choose a token from logits, by one uniform draw that depends on (seed, position) alone.

The kept candidates are sorted by probability and the draw is taken through their cumulative
distribution, so the same logits, seed and position give the same token on every worker.
"""

from collections.abc import Sequence

import torch

from engine.chance import uniform
from scheduler.batch import Slice
from scheduler.vocabulary import Sampling


def choose(logits: torch.Tensor, slices: Sequence[Slice]) -> list[int]:
    """logits  # [slices, vocab], changed in place; every slice wants a token. Position is that of the new token."""
    for row, piece in zip(logits, slices, strict=True):
        # Stop ids are a client's to choose; what the vocabulary lacks can't be sampled anyhow.
        forbidden = [token for token in piece.forbidden if 0 <= token < len(row)]
        if forbidden:
            row[forbidden] = float("-inf")
    tokens: list[int] = logits.argmax(-1).tolist()
    for index, piece in enumerate(slices):
        assert piece.sampling is not None
        if piece.sampling.temperature > 0:
            tokens[index] = sample(logits[index], piece.sampling, piece.end)
    return tokens


def sample(logits: torch.Tensor, sampling: Sampling, position: int) -> int:
    """logits  # [vocab]. Filters in the order top-k, top-p, min-p, after temperature, as Hugging Face does."""
    kept = min(sampling.top_k, len(logits)) or len(logits)
    # A stable order: where logits are equal, the smaller id comes first.
    values, ids = torch.sort(logits, descending=True, stable=True)
    values = values[:kept].double()
    # Below the best one, so that no temperature, however low, makes an infinity of it.
    probabilities = torch.softmax((values - values[0]) / sampling.temperature, -1)
    if sampling.top_p < 1:
        before = probabilities.cumsum(-1) - probabilities
        probabilities = torch.where(before < sampling.top_p, probabilities, 0.0)
    if sampling.min_p > 0:
        probabilities = torch.where(probabilities >= sampling.min_p * probabilities[0], probabilities, 0.0)
    cumulative = probabilities.cumsum(-1)
    draw = uniform(sampling.seed, position) * float(cumulative[-1])
    chosen = int(torch.searchsorted(cumulative, draw, right=True))
    last = int(torch.count_nonzero(probabilities)) - 1  # the kept ones are a prefix: they are sorted
    return int(ids[min(chosen, last)])
