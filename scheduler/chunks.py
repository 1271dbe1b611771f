"""Which prompts get a chunk of the next step, and where it ends: what decodes leave of the budget, spent in turn.

A step that prefills at all computes a block at least, however slow that is. Only where a block is too much for the
promises of those who decode (tempo.py) is it left to the next step, and to every fourth at the latest.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kvstore.device import DeviceBlocks
from scheduler.budget import Budget
from scheduler.queue import Oldest, in_turn
from scheduler.reservation import match_again
from scheduler.sequence import Running
from scheduler.tempo import MOST_SKIPPED, tempo
from scheduler.vocabulary import Profile


class Chunk(NamedTuple):
    """Tokens [start, end) of one sequence."""

    running: Running
    start: int
    end: int


class Chunks:
    """One worker's. max_tokens: of a step, decodes included; max_step_s: how long one may take by the profile."""

    def __init__(self, device: DeviceBlocks, *, block_tokens: int, max_tokens: int, max_step_s: float) -> None:
        self._device = device
        self._block_tokens = block_tokens
        self._max_tokens = max_tokens
        self._max_step_s = max_step_s
        self._oldest = Oldest()
        self._skipped = 0  # steps in a row in which somebody should have had a chunk and had none

    def cut(
        self,
        prefilling: Sequence[Running],
        decoding: Sequence[Running],
        profile: Profile,
        *,
        kv_tokens: int,
        now: float,
    ) -> list[Chunk]:
        """For one step. Both by arrival; kv_tokens: of those who decode. Finds what others have computed meanwhile."""
        owed = tempo(decoding, now=now)
        most_s = min(self._max_step_s, owed.step_s)
        budget = Budget(self._max_tokens, most_s, profile, self._block_tokens)
        budget.charge_decodes(len(decoding), kv_tokens)
        chunks: list[Chunk] = []
        for running in in_turn(prefilling, self._oldest, profile, now=now):
            match_again(running, self._device, self._block_tokens)
            start, total = running.computed, len(running.tokens)
            end = budget.chunk_end(start, total)
            if end == start:
                if chunks:
                    break
                end = min(total, start + self._block_tokens)
                if self._skipped < MOST_SKIPPED and most_s + budget.overspent_s(start, end) > owed.wait_s:
                    break
            chunks.append(Chunk(running, start, end))
            if end < total:
                break
            budget.charge_chunk(start, end)
        self._count(prefilling[0], chunks)
        return chunks

    def _count(self, oldest: Running, chunks: Sequence[Chunk]) -> None:
        if not chunks:
            self._skipped += 1
            return
        self._skipped = 0
        if any(chunk.running is oldest for chunk in chunks):
            self._oldest.had_its_turn()
        else:
            self._oldest.passed(oldest)
