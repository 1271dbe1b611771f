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
    """logits  # [slices, vocab], may be changed in place; every slice wants a token. Position is the new token's."""
    if any(piece.sampling is not None and piece.sampling.penalizes for piece in slices):
        logits = logits.float()  # in bf16 a penalized logit would be rounded into a tie
    for row, piece in zip(logits, slices, strict=True):
        # Stop ids are a client's to choose; what the vocabulary lacks can't be sampled anyhow.
        forbidden = [token for token in piece.forbidden if 0 <= token < len(row)]
        if forbidden:
            row[forbidden] = float("-inf")
        if piece.sampling is not None and piece.sampling.penalizes:
            _penalize(row, piece.sampling, piece.context, piece.prompt)
    tokens: list[int] = logits.argmax(-1).tolist()
    for index, piece in enumerate(slices):
        assert piece.sampling is not None
        if piece.sampling.temperature > 0:
            tokens[index] = sample(logits[index], piece.sampling, piece.end)
    return tokens


def _penalize(logits: torch.Tensor, sampling: Sampling, context: Sequence[int], prompt: int) -> None:
    """logits  # [vocab], changed in place: repetition, then frequency and presence, counted as vLLM 0.32 counts them.

    Repetition is of all of ``context``; the others of what follows its first ``prompt`` tokens, the output.
    """
    if sampling.repetition_penalty != 1.0:
        ids = torch.tensor(context, device=logits.device)
        found = logits[ids]  # before any is changed, so that a token that comes twice is penalized once
        factor = sampling.repetition_penalty
        logits[ids] = torch.where(found > 0, found / factor, found * factor)
    if sampling.presence_penalty != 0.0 or sampling.frequency_penalty != 0.0:
        ids, counts = torch.unique(torch.tensor(context[prompt:], dtype=torch.long), return_counts=True)
        taken = sampling.frequency_penalty * counts + sampling.presence_penalty
        logits[ids.to(logits.device)] -= taken.to(logits)


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
