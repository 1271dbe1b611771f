"""One sequence on one worker: its tokens, its device blocks, and where in its life it is.

The batcher owns it and changes it; this file holds the state and the table of its phases, and decides nothing.

    blocks of a sequence, in order (b = block_tokens):
    [0, reused)                   were on the device when it was admitted: shared, pinned, never written
    [reused, computed // b)       ours: copied from the store while it loaded, then written and named block by block
    [computed // b, len(blocks))  reserved
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from kvstore.names import BlockName, child_name
from scheduler.batch import Fill
from scheduler.vocabulary import FinishReason, Limits, RequestId, Sampling


class Phase(StrEnum):
    """Where a sequence is on this worker."""

    WAITING = "waiting"
    """In the queue: no seat, no blocks."""
    LOADING = "loading"
    """Has its seat and its blocks; the store is being asked for the prefix that the device lacks."""
    PREFILLING = "prefilling"
    """More than its last token is without KV."""
    DECODING = "decoding"
    """Only its last token is without KV: one token a step."""
    ENDED = "ended"


class Event(StrEnum):
    """What happens to a sequence."""

    ADMITTED = "admitted"
    LOADED = "loaded"
    LOADED_WHOLE = "loaded whole"
    """All but the last token's KV is held: nothing to prefill."""
    CAUGHT_UP = "caught up"
    """The first token after a prefill was sampled."""
    PREEMPTED = "preempted"
    LEFT = "left"
    """It finished, was handed over or was cancelled."""


NEXT: dict[tuple[Phase, Event], Phase] = {
    (Phase.WAITING, Event.ADMITTED): Phase.LOADING,
    (Phase.WAITING, Event.LEFT): Phase.ENDED,
    (Phase.LOADING, Event.LOADED): Phase.PREFILLING,
    (Phase.LOADING, Event.LOADED_WHOLE): Phase.DECODING,
    (Phase.LOADING, Event.LEFT): Phase.ENDED,
    (Phase.PREFILLING, Event.CAUGHT_UP): Phase.DECODING,
    (Phase.PREFILLING, Event.PREEMPTED): Phase.WAITING,
    (Phase.PREFILLING, Event.LEFT): Phase.ENDED,
    (Phase.DECODING, Event.PREEMPTED): Phase.WAITING,
    (Phase.DECODING, Event.LEFT): Phase.ENDED,
}
"""Whatever is not here is a bug and raises KeyError before anything has changed."""


@dataclass(slots=True, eq=False)
class Running:
    """A sequence that a batcher was given. Positions, lengths and ``computed`` are in tokens.

    tokens: prompt and output. prompt: how many of them are the prompt's. names: of the
    full blocks, as far as they were needed. computed: tokens whose KV is in ``blocks``.
    filled: of a sequence that is to be handed over, the tokens whose blocks need no ``Fill`` any more.
    """

    request: RequestId
    root: BlockName
    tokens: list[int]
    prompt: int
    sampling: Sampling
    limits: Limits
    hand_over: bool
    handed_over: bool
    arrival: int = 0
    arrived_s: float = 0.0
    started_s: float | None = None
    cached_tokens: int | None = None
    first_token_given: bool = False
    phase: Phase = Phase.WAITING
    names: list[BlockName] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    reused: int = 0
    computed: int = 0
    filled: int = 0

    def happened(self, event: Event) -> None:
        """Raises KeyError, and changes nothing, where the table has no such step."""
        self.phase = NEXT[self.phase, event]

    @property
    def generated(self) -> int:
        """Output tokens of the whole stream so far."""
        return len(self.tokens) - self.prompt

    @property
    def forbidden(self) -> frozenset[int]:
        """What the next token must not be."""
        return self.limits.stop_ids if self.generated < self.limits.min_tokens else frozenset()

    def finish(self, longest: int) -> FinishReason | None:
        """Whether its last token has ended it; longest: tokens that a sequence can have."""
        if self.tokens[-1] in self.limits.stop_ids:
            return FinishReason.STOP
        if self.generated >= self.limits.max_tokens or len(self.tokens) >= longest:
            return FinishReason.LENGTH
        return None


def sequence(
    request: RequestId,
    *,
    root: BlockName,
    prompt: Sequence[int],
    output: Sequence[int] = (),
    sampling: Sampling,
    limits: Limits,
    hand_over: bool = False,
    handed_over: bool = False,
) -> Running:
    """A sequence as a worker is asked for it; ``output`` are tokens of the stream that were given out before.

    hand_over: it ends after its first token, and its unfilled last prompt block is filled as a short one.
    handed_over: the KV of all its tokens but the last is expected in the store, a short last block included.
    """
    assert not (hand_over and handed_over), f"{request} comes from a handoff and can't go to another"
    return Running(request, root, [*prompt, *output], len(prompt), sampling, limits, hand_over, handed_over)


def tail_name(running: Running, end: int, size: int) -> BlockName:
    """The name of the short block that ends before token ``end``; size: tokens in a full block."""
    full = end // size
    parent = running.names[full - 1] if full else running.root
    return child_name(parent, running.tokens[full * size : end])


def fills(running: Running, start: int, end: int, size: int) -> list[Fill]:
    """What the tokens [start, end) complete; for a handoff, the short block that ends its prompt too."""
    names, blocks = running.names, running.blocks
    filled = []
    for index in range(start // size, end // size):
        if index == len(names):
            parent = names[-1] if names else running.root
            names.append(child_name(parent, running.tokens[index * size : (index + 1) * size]))
        filled.append(Fill(running.request, names[index], blocks[index]))
    if running.hand_over and end == len(running.tokens) and end % size:
        filled.append(Fill(running.request, tail_name(running, end, size), blocks[end // size], short=True))
    return filled
