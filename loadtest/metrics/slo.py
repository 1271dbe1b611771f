"""What a request has to keep to be good, and whether it did.

Good is finished within every bound. A request that the harness cancelled is judged only where it had broken a bound
already: whether the rest would have been kept, nobody knows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

from loadtest.metrics.timing import e2el_s, request_tbt_s, tpot_s
from loadtest.record import Outcome, Record

MS = 1e-3

MEASURES: dict[str, Callable[[Record], float | None]] = {
    "ttft": lambda record: record.ttft_s,
    "tpot": tpot_s,
    "tbt": request_tbt_s,
    "e2el": e2el_s,
}
"""What can be bounded. None, of a finished request, is kept: there was nothing to wait for."""


class SloError(ValueError):
    """No bound; the sentence says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Slo:
    """``ttft`` at most ``at_most_s`` seconds, or whichever of ``MEASURES``."""

    measure: str
    at_most_s: float

    def kept(self, record: Record) -> bool | None:
        """None: cancelled by us before it could be told."""
        if record.outcome is Outcome.CANCELLED:
            return False if self._broken_before_it_left(record) else None
        value = MEASURES[self.measure](record)
        return record.finished and (value is None or value <= self.at_most_s)

    def _broken_before_it_left(self, record: Record) -> bool:
        """For certain: a mean may still come right."""
        waited_s = record.ended_s - record.sent_s
        if self.measure == "ttft" and record.ttft_s is not None:
            return record.ttft_s > self.at_most_s
        return self.measure in ("ttft", "e2el") and waited_s > self.at_most_s

    def __str__(self) -> str:
        return f"{self.measure}:{self.at_most_s / MS:g}"


def parse(words: Iterable[str]) -> tuple[Slo, ...]:
    """Of ``ttft:500 tpot:50``, milliseconds as ``vllm bench serve`` takes them. Raises SloError."""
    found: dict[str, Slo] = {}
    for word in words:
        name, _, text = word.partition(":")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if name not in MEASURES or not (isfinite(value) and value > 0.0):
            raise SloError(f"{word!r} is no bound: one of {', '.join(MEASURES)}, a colon, milliseconds; like ttft:500")
        if name in found:
            raise SloError(f"{name} is bounded twice")
        found[name] = Slo(name, value * MS)
    return tuple(found.values())


def good(record: Record, slos: Sequence[Slo]) -> bool | None:
    """Whether it finished within all of them. None: cancelled by us before it could be told."""
    kept = [slo.kept(record) for slo in slos]
    if False in kept:
        return False
    return None if record.outcome is Outcome.CANCELLED else record.finished
