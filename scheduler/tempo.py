"""The pace that a worker owes its decoding sequences, and what it may take on beside them.

TPOT is promised as a mean over a stream, so its k-th further token is due k promises after its first one here. A step
with prefill in it is a gap in every stream. It takes no longer than the tightest promise, so that no gap is longer
than what was promised; and no longer than until the first token is due, so that whoever fell behind catches up. Who
fell behind by too much has lost its mean: it is counted anew, lest it hold up everybody's prefill for nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from scheduler import estimate
from scheduler.sequence import Running
from scheduler.vocabulary import Profile

MOST_SKIPPED = 3
"""Steps in a row without a chunk, where a single block is too much for the promises: prefill advances by a block in
every fourth step at least. Between them those who decode catch up by three of their own steps."""

HELD_TOKENS = 32
"""For the time of so many tokens at most does a stream wait for a seat beside tighter promises than its own: a tenth
of what it gets, by the mean of 343 tokens of the public conversation trace. Who is behind its own promise by more can
hardly keep it any more."""


@dataclass(frozen=True, slots=True)
class Tempo:
    """gap_s: the tightest promise of those who decode. wait_s: until the first of their tokens is due."""

    gap_s: float = inf
    wait_s: float = inf

    @property
    def step_s(self) -> float:
        """How long a step with prefill in it may take."""
        return min(self.gap_s, self.wait_s)


def tempo(decoding: Iterable[Running], *, now: float) -> Tempo:
    gap_s = due_s = inf
    for running in decoding:
        tpot_s = running.urgency.tpot_s
        if now - running.next_due_s > HELD_TOKENS * tpot_s:
            running.gave(now=now)
        gap_s, due_s = min(gap_s, tpot_s), min(due_s, running.next_due_s)
    return Tempo(gap_s, due_s - now)


def held_until_s(new: Running, seated: Iterable[Running], profile: Profile) -> float:
    """Until when ``new`` waits for its seat, if nobody leaves; -inf where its tokens would break no tighter promise.

    Between equals nobody waits: that would move the loss to who waits, and not avoid it. Such a load is refused by
    admission, or nobody refuses it. Who waits for a first token waits no longer than that allows.
    """
    decodes = [each for each in seated if not each.hand_over]
    tightest_s = min((each.urgency.tpot_s for each in decodes), default=inf)
    if new.hand_over or new.urgency.tpot_s <= tightest_s:
        return -inf
    kv_tokens = len(new.tokens) + sum(len(each.tokens) for each in decodes)
    if estimate.step_s(profile, len(decodes) + 1, kv_tokens) <= tightest_s:
        return -inf
    until_s = new.arrived_s + HELD_TOKENS * tightest_s
    return until_s if new.begun else min(until_s, new.starts_by_s)
