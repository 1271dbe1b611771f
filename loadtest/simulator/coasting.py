"""The real batcher, with one shortcut: decode steps that are all alike can be applied at once.

From one step to the next a batch that only decodes changes in nothing but its length, until a sequence ends, a
block fills, or something comes from outside. ``alike`` says how many such steps there are; ``coast`` applies
those after the first. Whoever uses neither steps one by one, with the same result (tested).
"""

from itertools import repeat
from math import inf

from scheduler.batch import Batch
from scheduler.batching import Batcher


class CoastingBatcher(Batcher):
    """See the module."""

    def alike(self, batch: Batch, *, now: float) -> int:
        """How many steps are like ``batch``, the one in flight, itself included; if they end by ``quiet_until_s``.

        The last of them may end a sequence or fill a block; none gives anybody the first token.
        """
        decoding = self._decoding
        if self._prefilling or len(batch.slices) != len(decoding):
            return 1  # a prefill takes part, or waits for what promises allow
        if self._waiting and self._may_sit(now) is not None:
            return 1  # another look after this step could be worth it: making its batch has changed what is free
        size = self._block_tokens
        steps = 1 << 30
        for running in decoding:
            if not running.first_token_given:
                return 1
            until_full = size - running.computed % size
            tokens = len(running.tokens)
            left = running.prompt + running.limits.max_tokens - tokens
            steps = min(steps, until_full, left, self._longest - tokens)
        return max(1, steps)

    def coast(self, steps: int) -> None:
        """So many more steps like the one before were run, between two batches; none of them the last alike."""
        assert self._flight is None, "a batch is in flight"
        for running in self._decoding:
            running.tokens.extend(repeat(running.tokens[-1], steps))
            running.computed += steps

    def quiet_until_s(self, *, now: float) -> float:
        """When somebody's turn to be seated comes by mere time: another's is over, or its own wait for a seat is."""
        head = self._waiting.head(now=now) if len(self._seated) < self._limits.max_num_seqs else None
        if head is None:
            return inf
        return min((each for each in (head.starts_by_s, self._held_until_s(head)) if each >= now), default=inf)
