"""What a batcher is told once, and what it tells its worker after each step. Values only."""

from dataclasses import dataclass

from scheduler.vocabulary import FinishReason, RequestId


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a worker takes on. max_step_s bounds a step that has prefill in it, by the profile."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    max_waiting: int
    max_step_s: float = 0.25

    def __post_init__(self) -> None:
        if min(self.max_num_seqs, self.max_num_batched_tokens, self.max_model_len, self.max_waiting) < 1:
            raise ValueError(f"limits of a batch must be at least 1: {self}")


@dataclass(frozen=True, slots=True)
class FirstToken:
    """How a sequence came to its first token here.

    cached_tokens: prompt tokens whose KV was reused, from the device or the store; a handoff is no reuse.
    queue_s: from add to the first slice. prefill_s: from there to the token.
    """

    cached_tokens: int
    queue_s: float
    prefill_s: float


# One for every token: not frozen, as ``Slice`` is not.
@dataclass(slots=True, unsafe_hash=True)
class Progress:
    """One token of one sequence. finish: it ended the stream.

    A sequence that is to be handed over leaves the batcher after its first token, finished or not.
    """

    request: RequestId
    token: int
    finish: FinishReason | None
    first: FirstToken | None = None


@dataclass(frozen=True, slots=True)
class BatcherSnapshot:
    """running: sequences that take part in steps. waiting: queued and loading; loading: those of them that load.

    prefill_tokens_queued: tokens still to be prefilled. kv_tokens: tokens whose KV the running sequences
    attend to. live: every sequence. preemptions: since the beginning. prefills_queued, prefill_squares_queued:
    sequences that have tokens [p, n) still to be prefilled, and the sum of their n * n - p * p.
    """

    running: int
    waiting: int
    loading: int
    prefill_tokens_queued: int
    kv_tokens: int
    live: tuple[RequestId, ...]
    preemptions: int
    prefills_queued: int = 0
    prefill_squares_queued: int = 0
