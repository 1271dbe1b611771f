"""Every prediction beside what happened, and what follows from that: how far predictions are off.

A factor is the geometric mean of measured over predicted TTFT, or TPOT, recent ones counting most, and 1 until there
are samples enough: it corrects what clients are told. A bound is what most of these ratios stay below, so it is
what admission reckons with: who promised the mean would break the promise to every other request that is taken at a
load of 1. In a bound a prediction counts the more the nearer it came to being refused, since only there a bound
decides anything. Both correct what is read, never the record: one that fed on itself would drift.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import exp, inf, log

from scheduler.vocabulary import Measured, Promise, RequestId

KEPT = 1000
"""Predictions that are shown."""

MEMORY = 0.98
"""What a sample still counts after another: the last fifty."""

SURE_TTFT = 0.97
"""The share of those that are taken at the limit who are to have their first token in time. Under overload nearly all
are taken there, so it is the share of all."""

SURE_TPOT = 0.8
"""Likewise of tokens. Less, since it is not only load that makes them late: the longest gap of a short answer is its
hand-over, whoever else decodes, and 8 % of such answers would set the limit for all."""

PACE_TTFT = 0.05
"""How far the bound of TTFT moves, in logarithms: from 1 to 1.2 in four samples if all are above. Whoever is late by a
slower machine is late by a burst, so the next burst must know it."""

PACE_TPOT = 0.02
"""Likewise of TPOT, where many a sample above is a hand-over and not load."""

NEARNESS = 4
"""Who was taken at half of the load at which it would have been refused counts 1/16 in a bound."""

WIDEST = 2.0
"""A bound over its factor. Beyond, one odd minute would refuse so many that nobody could show it wrong."""

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
class Agreement:
    """Of predictions of one kind, so many of them measured. ratio: geometric mean of measured over predicted. error:
    mean of |measured - predicted| / predicted. None: nothing was measured yet. bound: what admission multiplies by."""

    count: int = 0
    ratio: float | None = None
    error: float | None = None
    bound: float = 1.0


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of the predictions that are kept, see ``Agreement``. links, disks: of what stores have told of their carrying."""

    ttft: Agreement = Agreement()
    tpot: Agreement = Agreement()
    links: Agreement = Agreement()
    disks: Agreement = Agreement()


NOTHING_KNOWN = Accuracy()


@dataclass(slots=True)
class _Factor:
    """Geometric mean of measured over predicted."""

    weight: float = 0.0
    logs: float = 0.0

    def add(self, ratio: float) -> None:
        self.weight = MEMORY * self.weight + 1.0
        self.logs = MEMORY * self.logs + log(ratio)

    @property
    def value(self) -> float:
        return _within(exp(self.logs / (self.weight + PRIOR_SAMPLES)))


@dataclass(slots=True)
class _Bound:
    """What ``sure`` of the ratios are below: up by a little for each above it, down by less for each below (Robbins and
    Monro, 1951). One that is far off moves it no more than one that is a little off."""

    sure: float
    pace: float
    log: float = 0.0

    def add(self, ratio: float, weight: float) -> None:
        moved = self.log + weight * self.pace * (self.sure if log(ratio) > self.log else self.sure - 1.0)
        self.log = log(_within(exp(moved)))

    @property
    def value(self) -> float:
        return exp(self.log)


def _within(factor: float) -> float:
    return min(max(factor, 1.0 / FURTHEST), FURTHEST)


@dataclass(slots=True)
class _Ratio:
    """Measured over predicted, of one kind."""

    near: _Bound
    mean: _Factor = field(default_factory=_Factor)

    def add(self, predicted: float, promised: float, measured: float | None) -> None:
        if measured and predicted > 0.0:
            load = 1.0 if promised == inf else self.bound * predicted / promised
            self.mean.add(measured / predicted)
            self.near.add(measured / predicted, min(1.0, load) ** NEARNESS)

    @property
    def bound(self) -> float:
        mean = self.mean.value  # also of those who were nowhere near
        return min(max(self.near.value, mean), WIDEST * mean)


class Predictions:
    """Open ones until their outcome, then the last thousand."""

    def __init__(self) -> None:
        self._open: dict[RequestId, tuple[float, float, Promise]] = {}
        self._ttft, self._tpot = _Ratio(_Bound(SURE_TTFT, PACE_TTFT)), _Ratio(_Bound(SURE_TPOT, PACE_TPOT))
        self.kept: deque[Prediction] = deque(maxlen=KEPT)

    def predicted(self, request: RequestId, promise: Promise, *, ttft_s: float, tpot_s: float) -> None:
        """By what it was judged, uncorrected."""
        self._open[request] = (ttft_s, tpot_s, promise)
        if len(self._open) > 100 * KEPT:
            self._open.pop(next(iter(self._open)))  # gateways that died never tell

    def promise(self, request: RequestId) -> Promise | None:
        """To an open one; None where that is not known any more."""
        known = self._open.get(request)
        return None if known is None else known[2]

    def again(self, request: RequestId, *, tpot_s: float) -> None:
        """Its decode is judged once more, later and better."""
        known = self._open.get(request)
        if known is not None:
            self._open[request] = (known[0], tpot_s, known[2])

    def happened(self, request: RequestId, measured: Measured | None) -> None:
        """At its end; None where nothing was measured."""
        predicted = self._open.pop(request, None)
        if predicted is None or measured is None:
            return
        ttft_s, tpot_s, promise = predicted
        self.kept.append(Prediction(request, ttft_s, tpot_s, measured))
        self._ttft.add(ttft_s, promise.ttft_s, measured.ttft_s)
        self._tpot.add(tpot_s, promise.tpot_s, measured.tpot_s)

    @property
    def ttft_factor(self) -> float:
        """Measured over predicted TTFT, as far as can be told."""
        return self._ttft.mean.value

    @property
    def ttft_bound(self) -> float:
        """The same, that SURE_TTFT of those near their promise stay below."""
        return self._ttft.bound

    @property
    def tpot_factor(self) -> float:
        """Likewise. A TPOT is measured over a whole answer, so it tells what the batch became later, too."""
        return self._tpot.mean.value

    @property
    def tpot_bound(self) -> float:
        return self._tpot.bound

    def accuracy(self) -> Accuracy:
        ttfts = [(each.ttft_s, each.measured.ttft_s) for each in self.kept]
        tpots = [(each.tpot_s, each.measured.tpot_s) for each in self.kept]
        return Accuracy(
            replace(agreement(ttfts), bound=self.ttft_bound), replace(agreement(tpots), bound=self.tpot_bound)
        )


def agreement(pairs: Sequence[tuple[float, float | None]]) -> Agreement:
    """Of what was predicted with what was measured, where it was."""
    known = [(predicted, measured) for predicted, measured in pairs if measured and predicted > 0.0]
    if not known:
        return Agreement()
    ratio = exp(sum(log(measured / predicted) for predicted, measured in known) / len(known))
    error = sum(abs(measured - predicted) / predicted for predicted, measured in known) / len(known)
    return Agreement(len(known), ratio, error)
