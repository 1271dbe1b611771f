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
from math import inf

from kvstore.names import BlockName, child_name
from scheduler import estimate
from scheduler.batch import Fill
from scheduler.vocabulary import FinishReason, Limits, Priority, Profile, RequestId, Sampling, Urgency

NEARLY_S = 0.1
"""Deadlines within a tenth of a second are the same one. What comes in one burst with one promise is due within
milliseconds of each other, in an order that threads and sockets have drawn; it is served in the order of arrival, which
is that in which it was placed and its first tokens were predicted."""

MOST_LATE = 0.25
"""Of the time that an admitted sequence had left: what its first token may be late by before others go first for good.
Until then it is overtaken only by those that are due sooner than that."""

AWAITED = -1
"""Stands for a handoff's first token until its prefill worker has sampled it: blocks are loaded meanwhile."""

AT_LEISURE = Urgency()
"""Nothing is promised."""


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
    due_s: when its first token is due; turn: the same in whole ``NEARLY_S``.
    starts_by_s: when its prefill has to begin for that, as expected on arrival.
    late_turn, late_starts_by_s: the same once it is late, of a sequence that was admitted: see ``MOST_LATE``.
    paced_s, paced_tokens: since when its tokens are expected one by one, and how many of them there were by then.
    """

    request: RequestId
    root: BlockName
    tokens: list[int]
    prompt: int
    sampling: Sampling
    limits: Limits
    hand_over: bool
    handed_over: bool
    urgency: Urgency = AT_LEISURE
    arrival: int = 0
    arrived_s: float = 0.0
    due_s: float = inf
    turn: float = inf
    starts_by_s: float = inf
    late_turn: float = inf
    late_starts_by_s: float = inf
    paced_s: float = 0.0
    paced_tokens: int = 0
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

    def came(self, arrival: int, profile: Profile, *, now: float) -> None:
        """What was left of its promises counts from here, by this worker's clock."""
        self.arrival, self.arrived_s = arrival, now
        self.due_s = now + self.urgency.ttft_left_s
        self.turn = self.due_s // NEARLY_S if self.due_s < inf else inf
        work_s = estimate.prefill_s(profile, len(self.tokens), self._expected)
        self.starts_by_s = self.due_s - work_s
        if self.urgency.admitted and 0.0 < self.urgency.ttft_left_s < inf:
            late_s = self.due_s + MOST_LATE * self.urgency.ttft_left_s
            self.late_turn, self.late_starts_by_s = late_s // NEARLY_S, late_s - work_s
        self.gave(now=now)

    def began(self, token: int, *, now: float) -> None:
        """The token that it was awaiting is known."""
        assert self.tokens[-1] == AWAITED, f"{self.request} awaits no token"
        self.tokens[-1] = token
        self.gave(now=now)

    @property
    def known(self) -> list[int]:
        """Its tokens, but for one that is awaited."""
        return self.tokens[:-1] if self.tokens[-1] == AWAITED else self.tokens

    def gave(self, *, now: float) -> None:
        """The first token after its prefill is out: further ones are expected from now on."""
        self.paced_s, self.paced_tokens = now, len(self.tokens)

    @property
    def _expected(self) -> int:
        """Tokens that whoever placed it here expects it to find."""
        return min(self.urgency.cached_tokens, len(self.tokens) - 1)

    def spared(self, size: int) -> int:
        """Tokens that it need not compute; size: tokens in a block.

        Until its first slice it may still find what is expected, though it has not yet: others here are computing it,
        or it is on its way. Who counts it as work takes a queue about one text for as many times its length.
        """
        found = max(self.computed, self.reused * size)
        if self.started_s is not None or self.handed_over:
            return found
        return max(found, self._expected)

    @property
    def generated(self) -> int:
        """Output tokens of the whole stream so far."""
        return len(self.tokens) - self.prompt

    @property
    def penalized(self) -> tuple[int, ...]:
        """Its tokens where penalties count them, else none. They are all the state of penalties, resumed or not."""
        return tuple(self.tokens) if self.sampling.penalizes else ()

    @property
    def begun(self) -> bool:
        """Its client has had tokens, and waits for the next one."""
        return len(self.tokens) > self.prompt

    @property
    def promised(self) -> bool:
        return self.urgency.ttft_left_s < inf or self.urgency.tpot_s < inf

    @property
    def urged(self) -> bool:
        """Whether anything but its arrival can count in a queue."""
        return self.due_s < inf or self.urgency.priority is Priority.BATCH or (self.begun and self.promised)

    def standing(self, profile: Profile, *, now: float) -> tuple[bool, float]:
        """Whether it is set aside for being late, and its place among those that are set aside or not."""
        starts_s = now + estimate.prefill_s(profile, len(self.tokens), self.computed)
        if starts_s <= self.due_s:
            return False, self.turn
        return (False, self.late_turn) if starts_s // NEARLY_S <= self.late_turn < inf else (True, 0.0)

    @property
    def next_due_s(self) -> float:
        """When its next token would be late by the mean that was promised; inf where none was."""
        return self.paced_s + (len(self.tokens) - self.paced_tokens + 1) * self.urgency.tpot_s

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
    urgency: Urgency = AT_LEISURE,
) -> Running:
    """A sequence as a worker is asked for it; ``output`` are tokens of the stream that were given out before.

    hand_over: it ends after its first token, and its unfilled last prompt block is filled as a short one.
    handed_over: the KV of all its tokens but the last is expected in the store, a short last block included; the last
    may be AWAITED.
    """
    assert not (hand_over and handed_over), f"{request} comes from a handoff and can't go to another"
    tokens = [*prompt, *output]
    return Running(request, root, tokens, len(prompt), sampling, limits, hand_over, handed_over, urgency)


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
