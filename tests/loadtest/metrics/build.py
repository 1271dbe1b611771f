"""Records for the tests of metrics: two seconds after the beginning, unless told otherwise."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from loadtest.metrics import Facts
from loadtest.record import Chunk, Outcome, Record

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def record(*times: float, **changes: Any) -> Record:
    """Finished, with a chunk of one token at each of these times."""
    sent_s = float(changes.get("sent_s", 0.0))
    plain = Record(
        place=0,
        planned_s=sent_s,
        sent_s=sent_s,
        input_tokens=10,
        max_tokens=max(1, len(times)),
        outcome=Outcome.FINISHED,
        ended_s=sent_s + (times[-1] if times else 0.0),
        chunks=tuple(Chunk(at_s, 1) for at_s in times),
    )
    return replace(plain, **changes)


def refused(cause: str = "slo_unattainable", **changes: Any) -> Record:
    return record(outcome=Outcome.REFUSED, cause=cause, status=429, **changes)


def failed(*times: float, cause: str = "http 500", **changes: Any) -> Record:
    return record(*times, outcome=Outcome.FAILED, cause=cause, **changes)


def cancelled(*times: float, **changes: Any) -> Record:
    return record(*times, outcome=Outcome.CANCELLED, cause="left midway", **changes)


def facts(**changes: Any) -> Facts:
    return replace(Facts(WHEN), **changes)
