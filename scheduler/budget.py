"""What one step may still take on: tokens, and seconds by the profile.

Decodes are charged first and never refused, a token each; what is left goes to prefill chunks.
"""

from dataclasses import dataclass

from scheduler import estimate
from scheduler.vocabulary import Profile


@dataclass(slots=True)
class Budget:
    """tokens and seconds: what is left; block_tokens: chunks are cut at whole blocks, but for a prompt's end."""

    tokens: int
    seconds: float
    profile: Profile
    block_tokens: int

    def charge_decodes(self, sequences: int, kv_tokens: int) -> None:
        """Also charges the step's fixed cost, so it is called once, with 0 where nobody decodes."""
        prefill_fixed_s, step_fixed_s = self.profile.prefill_s[0], self.profile.step_s[0]
        # Decodes and chunks share one pass over the weights: of their two fixed costs the greater counts, once.
        fixed_s = max(prefill_fixed_s, step_fixed_s) if sequences else prefill_fixed_s
        self.tokens -= sequences
        self.seconds -= fixed_s + estimate.step_s(self.profile, sequences, kv_tokens) - step_fixed_s

    def chunk_end(self, start: int, total: int) -> int:
        """Where the chunk that starts at ``start`` of ``total`` tokens must end; ``start`` where nothing fits."""
        end = int(min(total, start + self.tokens, estimate.chunk_end(self.profile, start, self.seconds)))
        return end if end == total else max(start, end - end % self.block_tokens)

    def overspent_s(self, start: int, end: int) -> float:
        """By how much the seconds would be exceeded with this chunk."""
        return estimate.prefill_s(self.profile, end, start) - self.profile.prefill_s[0] - self.seconds

    def charge_chunk(self, start: int, end: int) -> None:
        self.tokens -= end - start
        self.seconds -= estimate.prefill_s(self.profile, end, start) - self.profile.prefill_s[0]
