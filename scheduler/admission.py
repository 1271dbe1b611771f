"""Whether a request is taken, given what it is predicted to get and what it was promised.

A load is predicted over promised: of the prefill, TTFT / its SLO; of the decode, TPOT / its SLO, or
infinite where there is no room (arXiv 2407.00079, section 7). The modes differ in what they look at, and when:

    off         nothing is refused for being late
    queue       late ones wait their turn at a worker, up to a deadline
    baseline    each pool when its stage begins: a refusal after the prefill wastes it
    early       both on arrival, the decode as it is now, which is one prefill older than what will be met
    predictive  both on arrival, the decode as it will be when the prefill has ended

The last two look at the decode again when its stage begins, as decode nodes do in the paper (section 3, step 4):
who was let in by mistake would break the promises to all others in its batch.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum
from math import inf

from scheduler.vocabulary import Ask, Priority


class Admission(StrEnum):
    OFF = "off"
    QUEUE = "queue"
    BASELINE = "baseline"
    EARLY = "early"
    PREDICTIVE = "predictive"

    @property
    def looks_at_decode(self) -> bool:
        """On arrival."""
        return self in (Admission.EARLY, Admission.PREDICTIVE)

    @property
    def checks_again(self) -> bool:
        """The decode pool, when a prefill has ended."""
        return self is Admission.BASELINE or self.looks_at_decode


BATCH_LOAD = 0.8
"""Load up to which batch requests are taken: interactive ones find a fifth of both pools free."""

BATCH_PATIENCE_S = 120.0
"""Who has tried for so long is taken whatever the load, and so is the next one where every batch request has been
refused for so long: batch gives way, but not for ever, whether its clients wait or come back."""

QUEUE_LOAD = 0.85
"""The part of a promised TTFT, beside a request's own work, that others' work may take up. The rest is for what cannot
be predicted: how long calls take when many come at once, and how much slower machines are then. It costs
admissions where promises are tight (docs/scheduling.md has the table)."""

RETURN_LOAD = 0.95
"""Likewise, of those that come back as they were told: they come one by one."""

STEP_S = 0.25
"""The longest step of a worker (``BatchLimits.max_step_s``): a first token comes when the step ends that has its last
chunk, with the chunks of others in it."""

STEP_PART = 0.125
"""Of a promise, the most that is counted for that: where little is promised, it would refuse more than it saves."""

FAIR_LOAD = 0.7
"""The tightest limit of a tenant that has had more than its share: below this load everybody is taken."""

LONGEST_RETRY_S = 60.0
"""What is told where waiting is no use."""

RANKS = (0.9, 0.75)
"""Limits that put a request before others: those of interactive requests are above the first, of batch requests above
the second, of tenants that have had far more than their share below."""


@dataclass(frozen=True, slots=True)
class Loads:
    """Predicted over promised; inf where the decode has no room."""

    prefill: float
    decode: float
    prefill_alone: float = 0.0
    decode_alone: float = 0.0
    """The same if nobody else were there: above the limit, waiting is no use."""

    @property
    def most(self) -> float:
        return max(self.prefill, self.decode)

    def prefill_limit(self, most: float, *, returns: bool = False) -> float:
        """returns: it was told to come now."""
        return _beside(self.prefill_alone, (RETURN_LOAD if returns else QUEUE_LOAD) * most)

    def decode_limit(self, most: float) -> float:
        return _beside(self.decode_alone, most)


def _beside(alone: float, most: float) -> float:
    """``most`` is of what a request's own work leaves of its promise: it is the others' work that it is to give way to.
    Else an idle cluster would refuse a long prompt of a batch request, and nobody would gain by that."""
    return alone + most * (1.0 - alone) if alone < 1.0 and most < 1.0 else most


def limit(ask: Ask, excess: float, *, starved_s: float = 0.0) -> float:
    """The load up to which this request is taken, of what its own work leaves. excess: what its tenant has had over its
    share; starved_s: for how long every batch request was refused."""
    starved = ask.priority is Priority.BATCH and max(ask.waited_s, starved_s) >= BATCH_PATIENCE_S
    if ask.resumed or starved:
        return inf
    most = BATCH_LOAD if ask.priority is Priority.BATCH else 1.0
    return min(most, max(FAIR_LOAD, 1.0 / excess)) if excess > 1.0 else most


def rank_of(most: float) -> int:
    """Whose turns come first, by the load up to which it is taken: 0 before 1 before 2."""
    return sum(most < each for each in RANKS)


class Refused(Enum):
    """Why; the sentences are in refusals.py."""

    WAITS = "its turn comes after the deadline of ``queue``"
    LATE = "its first token"
    SLOW = "its further tokens"
    NO_ROOM = "nobody has room to decode it"
    BEHIND = "others were told to come back before it"


def refused(
    mode: Admission, loads: Loads, most: float, *, ttft_s: float, queue_s: float, returns: bool = False
) -> Refused | None:
    """Why it is refused; None where it is taken. queue_s: the deadline of ``queue``."""
    if most == inf or mode is Admission.OFF:
        return None
    if mode is Admission.QUEUE:
        return Refused.WAITS if ttft_s > queue_s else None
    if loads.prefill > loads.prefill_limit(most, returns=returns):
        return Refused.LATE
    if mode.looks_at_decode and loads.decode > loads.decode_limit(most):
        return Refused.NO_ROOM if loads.decode == inf else Refused.SLOW
    return None


def futile(mode: Admission, loads: Loads, most: float) -> bool:
    """Whether waiting is no use to what is refused: no wait makes a prefill, or a lone step, shorter."""
    return mode is not Admission.QUEUE and (
        loads.prefill_alone > loads.prefill_limit(most)
        or (mode.looks_at_decode and loads.decode_alone > loads.decode_limit(most))
    )
