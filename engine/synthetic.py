"""Batches that exist to be measured: a prompt, and a decode step, over pages that lie in a row."""

from scheduler.batch import Batch, Slice
from scheduler.vocabulary import RequestId, Sampling

TOKEN = 1
"""What the tokens are changes no cost."""


def prefill_batch(tokens: int, block_tokens: int) -> Batch:
    """One prompt of ``tokens``, computed whole, one token sampled."""
    blocks = range(-(-tokens // block_tokens))
    return Batch((Slice(RequestId("prompt"), [TOKEN] * tokens, 0, blocks, Sampling()),))


def step_batch(sequences: int, context: int, block_tokens: int) -> Batch:
    """One token for each sequence, whose KV is then ``context`` tokens long; blocks 0 .. sequences * blocks each."""
    each = -(-context // block_tokens)
    return Batch(
        tuple(
            Slice(RequestId(f"stream {i}"), [TOKEN], context - 1, range(i * each, (i + 1) * each), Sampling())
            for i in range(sequences)
        )
    )
