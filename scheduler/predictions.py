"""Every prediction beside what happened, and what follows from that: how far predictions are off.

A factor is the geometric mean of measured over predicted TTFT, or TPOT, recent ones counting most, and 1 until there
are samples enough. It corrects what admission reckons with, never the record: one that fed on itself would drift.
"""

from collections import deque
from dataclasses import dataclass
from math import exp, log

from scheduler.vocabulary import Measured, RequestId

KEPT = 1000
"""Predictions that are shown."""

MEMORY = 0.98
"""What a sample still counts after another: the last fifty."""

PRIOR_SAMPLES = 20.0
"""Samples that say "predictions are right", before there are any."""

FURTHEST = 4.0
"""A factor beyond this, either way, says that something else is wrong."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a placement was told to get, and what it got; None where nobody said."""

    request: RequestId
    ttft_s: float
    tpot_s: float
    measured: Measured


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of the predictions that are kept. ttft_ratio, tpot_ratio: geometric mean of measured over predicted.
    ttft_error, tpot_error: mean of |measured - predicted| / predicted. None: nothing was measured yet."""

    count: int = 0
    ttft_ratio: float | None = None
    ttft_error: float | None = None
    tpot_ratio: float | None = None
    tpot_error: float | None = None


NOTHING_KNOWN = Accuracy()


@dataclass(slots=True)
class _Factor:
    """Geometric mean of measured over predicted."""

    weight: float = 0.0
    logs: float = 0.0

    def add(self, predicted: float, measured: float | None) -> None:
        if measured and predicted > 0.0:
            self.weight = MEMORY * self.weight + 1.0
            self.logs = MEMORY * self.logs + log(measured / predicted)

    @property
    def value(self) -> float:
        return min(max(exp(self.logs / (self.weight + PRIOR_SAMPLES)), 1.0 / FURTHEST), FURTHEST)


class Predictions:
    """Open ones until their outcome, then the last thousand."""

    def __init__(self) -> None:
        self._open: dict[RequestId, tuple[float, float]] = {}
        self._ttft, self._tpot = _Factor(), _Factor()
        self.kept: deque[Prediction] = deque(maxlen=KEPT)

    def predicted(self, request: RequestId, *, ttft_s: float, tpot_s: float) -> None:
        self._open[request] = (ttft_s, tpot_s)
        if len(self._open) > 100 * KEPT:
            self._open.pop(next(iter(self._open)))  # gateways that died never tell

    def happened(self, request: RequestId, measured: Measured | None) -> None:
        """At its end; None where nothing was measured."""
        predicted = self._open.pop(request, None)
        if predicted is None or measured is None:
            return
        ttft_s, tpot_s = predicted
        self.kept.append(Prediction(request, ttft_s, tpot_s, measured))
        self._ttft.add(ttft_s, measured.ttft_s)
        self._tpot.add(tpot_s, measured.tpot_s)

    @property
    def ttft_factor(self) -> float:
        """Measured over predicted TTFT, as far as can be told."""
        return self._ttft.value

    @property
    def tpot_factor(self) -> float:
        """Likewise. A TPOT is measured over a whole answer, so it tells what the batch became later, too."""
        return self._tpot.value

    def accuracy(self) -> Accuracy:
        ttfts = [(each.ttft_s, each.measured.ttft_s) for each in self.kept]
        tpots = [(each.tpot_s, each.measured.tpot_s) for each in self.kept]
        return Accuracy(len(self.kept), *_compare(ttfts), *_compare(tpots))


def _compare(pairs: list[tuple[float, float | None]]) -> tuple[float | None, float | None]:
    """Geometric mean of the ratios, and mean relative error."""
    known = [(predicted, measured) for predicted, measured in pairs if measured and predicted > 0.0]
    if not known:
        return None, None
    ratio = exp(sum(log(measured / predicted) for predicted, measured in known) / len(known))
    return ratio, sum(abs(measured - predicted) / predicted for predicted, measured in known) / len(known)
