"""One sequence that a client wants, and the account of what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kvstore.names import BlockName, block_names
from scheduler.vocabulary import (
    NO_PROMISE,
    NOTHING_LIFTED,
    Decision,
    Lifted,
    Limits,
    Promise,
    RequestId,
    Sampling,
    WorkerId,
)
from services.gateway.wishes import Wishes


@dataclass(frozen=True, slots=True)
class Generation:
    """What is to be generated. fingerprint: of the deployment that is asked. names: of the prompt's full blocks."""

    request: RequestId
    fingerprint: bytes
    root: BlockName
    block_tokens: int
    prompt: Sequence[int]
    names: tuple[BlockName, ...]
    sampling: Sampling
    limits: Limits
    wishes: Wishes

    def names_with(self, output: Sequence[int]) -> tuple[BlockName, ...]:
        """The names of prompt and output, for a stream that is placed again."""
        if not output:
            return self.names
        return tuple(block_names(self.root, [*self.prompt, *output], self.block_tokens))

    def ended_by(self, output: Sequence[int]) -> bool:
        """Whether ``output`` is all there is to it: the limit is reached, or its last token ends it."""
        return len(output) >= self.limits.max_tokens or (bool(output) and output[-1] in self.limits.stop_ids)


@dataclass(slots=True)
class Account:
    """What became of a generation: for headers, usage, logs and metrics. Times in seconds.

    prefill: who computed the prompt for the first token, None for who decodes; predicted_ttft_s: of that
    placement, too, or of the last refusal, None where neither was. promise: what held for it then. decode: who decodes,
    or did last. failed: who refused it or failed at it, in that order.
    placing_s: all placements together, waiting for somebody to appear included. queue_s and
    prefill_s: the first token's, as its worker stamped them. cached_tokens: of the prompt, reused;
    None until known; lifted: of these, what came from a store. counted_at: the address of the worker whose metrics
    count it: the one that is to give its first token, then the one that gave the last; None: it was never placed.
    placements: how often it was to be placed; decisions: how, each time that it was; moves: after the
    first token. missing_blocks: of handoffs, computed anew by who was to decode.
    """

    prefill: WorkerId | None = None
    promise: Promise = NO_PROMISE
    decode: WorkerId | None = None
    predicted_ttft_s: float | None = None
    failed: list[WorkerId] = field(default_factory=list)
    placements: int = 0
    placing_s: float = 0.0
    moves: int = 0
    decisions: list[Decision] = field(default_factory=list)
    missing_blocks: int = 0
    cached_tokens: int | None = None
    lifted: Lifted = NOTHING_LIFTED
    counted_at: str | None = None
    queue_s: float | None = None
    prefill_s: float | None = None
