"""What a client is told that is refused for being late: clauses, with what was predicted and what was promised.

Whether it is refused is decided in admission.py, by loads; these sentences give the same loads back as times, so they
cannot say anything else. What a request wants itself was asked for, what its deployment wants for it was promised.
"""

from scheduler.admission import BATCH_LOAD, Loads, Refused
from scheduler.vocabulary import Ask, Priority, Promise

IN_VAIN = "its prompt was computed in vain"
FILLED = "the worker that was to decode it is full"
"""Of what is refused only when its prefill has ended."""

NO_ROOM = "no worker will have room to decode it"

MOST_DIGITS = 6


def sentence(
    why: Refused,
    ask: Ask,
    loads: Loads,
    most: float,
    promise: Promise,
    *,
    ttft_s: float,
    queue_s: float,
    before: int = 0,
) -> str:
    """A clause. most: the load up to which it would be taken; ttft_s: predicted; queue_s: the deadline of ``queue``;
    before: requests that were told to come back before it."""
    match why:
        case Refused.BEHIND:
            requests = "a request that was" if before == 1 else f"{before} requests that were"
            return f"its place is behind {requests} refused before it and told when to come back"
        case Refused.WAITS:
            predicted, longest = _apart(ttft_s, queue_s)
            return f"first token predicted in {predicted}, and nobody waits longer than {longest} here"
        case Refused.NO_ROOM:
            return NO_ROOM
        case Refused.LATE:
            limit = loads.prefill_limit(most)
            said = late(loads.prefill, promise, ask)
            if loads.prefill <= 1.0 or most < 1.0:
                said += _less(ask, most, limit * promise.ttft_s)
            alone_s = loads.prefill_alone * promise.ttft_s
            return f"{said}; on an idle cluster it would take {told(alone_s)}" if loads.prefill_alone > limit else said
        case Refused.SLOW:
            limit = loads.decode_limit(most)
            said = slow(loads.decode, promise, ask)
            if most < 1.0:
                said += _less(ask, most, limit * promise.tpot_s)
            alone_s = loads.decode_alone * promise.tpot_s
            return f"{said}; on an idle cluster, every {told(alone_s)}" if loads.decode_alone > limit else said


def late(load: float, promise: Promise, ask: Ask) -> str:
    predicted, wanted = _apart(load * promise.ttft_s, promise.ttft_s)
    return f"first token predicted in {predicted}, {_wanted(ask.ttft_slo_s)} within {wanted}"


def slow(load: float, promise: Promise, ask: Ask | None = None) -> str:
    """ask: None where it is not known any more who wanted it."""
    predicted, wanted = _apart(load * promise.tpot_s, promise.tpot_s)
    return f"a token predicted every {predicted}, {_wanted(None if ask is None else ask.tpot_slo_s)} every {wanted}"


def told(seconds: float, digits: int = 3) -> str:
    """A time as people read it."""
    for unit_s, unit, most in ((0.001, "ms", 1000.0), (1.0, "s", 600.0), (60.0, "min", 120.0)):
        number = _rounded(seconds / unit_s, digits)
        if float(number) < most:
            return f"{number} {unit}"
    return f"{_rounded(seconds / 3600.0, digits)} h"


def _apart(one_s: float, other_s: float) -> tuple[str, str]:
    """Both with digits enough to tell them apart."""
    for digits in range(3, MOST_DIGITS):
        if told(one_s, digits) != told(other_s, digits):
            return told(one_s, digits), told(other_s, digits)
    return told(one_s, MOST_DIGITS), told(other_s, MOST_DIGITS)


def _rounded(number: float, digits: int) -> str:
    """Without an exponent, and whole above so many digits."""
    return f"{float(f'{number:.{digits}g}'):.12f}".rstrip("0").rstrip(".")


def _wanted(own_s: float | None) -> str:
    return "promised" if own_s is None else "asked for"


def _less(ask: Ask, most: float, taken_s: float) -> str:
    """Why what would keep the promise is refused all the same."""
    if most >= 1.0:
        return f", and taken where it is predicted within {told(taken_s)}"
    who = (
        "batch requests are"
        if ask.priority is Priority.BATCH and most == BATCH_LOAD
        else "tenants over their share are"
    )
    return f", and {who} taken up to {told(taken_s)}"
