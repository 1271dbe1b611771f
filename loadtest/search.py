"""Find the highest rate at which enough requests are good, in few runs. Pure: told counts, it answers with a rate.

Rates double from the lowest until one fails, then the border is halved (by ratio) until it is narrow enough. Runs are
noisy, so a rate's verdict is that of all its runs together, and the two rates at the border are tried again until each
has ``repeats`` runs; where that turns a verdict, the search goes on from there.

    lowest ... low | .... | high ...     low: holds, and nothing tried below it fails.  high: the lowest that fails.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from math import sqrt

Z = 1.96
"""Of a normal distribution, 95 % lie within so many standard deviations."""


class Certainty(StrEnum):
    """How sure an answer is."""

    CLEAR = "clear"
    """The intervals of both sides exclude the target, and every run agreed."""

    CLOSE = "close"
    """A run disagreed, or chance could have turned a verdict."""

    SINGLE = "tried once"
    """A side of the border has one run: nothing is known about its noise."""

    UNFINISHED = "unfinished"
    """The runs that were allowed ran out, or somebody stopped it, before the border was narrow enough."""


@dataclass(slots=True)
class Tried:
    """What runs at one rate gave: good requests of judged ones, a pair for each run."""

    rate: float
    runs: list[tuple[int, int]] = field(default_factory=list)

    @property
    def good(self) -> int:
        return sum(good for good, _ in self.runs)

    @property
    def judged(self) -> int:
        return sum(judged for _, judged in self.runs)

    @property
    def share(self) -> float:
        """0 where nothing could be judged: nothing was shown to hold."""
        return self.good / self.judged if self.judged else 0.0

    @property
    def shares(self) -> list[float]:
        return [good / judged if judged else 0.0 for good, judged in self.runs]

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, of the share, 95 %. As if requests were independent: those of one run are not quite."""
        if not self.judged:
            return 0.0, 1.0
        number, share = self.judged, self.share
        middle = (share + Z * Z / (2 * number)) / (1 + Z * Z / number)
        half = Z / (1 + Z * Z / number) * sqrt(share * (1 - share) / number + Z * Z / (4 * number * number))
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class Answer:
    """low None: not even the lowest rate held. high None: the highest that may be tried held too."""

    low: Tried | None
    high: Tried | None
    certainty: Certainty


class Search:
    """tolerance: how much wider than 1 the ratio of the border's sides may be. most: runs in all."""

    def __init__(
        self, *, target: float, lowest: float, highest: float, tolerance: float, repeats: int, most: int
    ) -> None:
        assert 0.0 < lowest <= highest
        assert 0.0 < target <= 1.0
        assert tolerance > 0.0
        assert repeats >= 1
        self._target, self._lowest, self._highest = target, lowest, highest
        self._tolerance, self._repeats, self._most = tolerance, repeats, most
        self._tried: dict[float, Tried] = {}

    @property
    def tried(self) -> list[Tried]:
        return sorted(self._tried.values(), key=lambda tried: tried.rate)

    def told(self, rate: float, good: int, judged: int) -> None:
        """What a run at this rate gave."""
        assert 0 <= good <= judged
        self._tried.setdefault(rate, Tried(rate)).runs.append((good, judged))

    def next(self) -> float | None:
        """The rate to run at; None: it is over."""
        if sum(len(tried.runs) for tried in self._tried.values()) >= self._most:
            return None
        return self._wanted()

    def answer(self) -> Answer:
        """Of what it was told until now."""
        low, high = self._border()
        return Answer(low, high, self._certainty(low, high))

    def holds(self, tried: Tried) -> bool:
        return tried.share >= self._target

    def _wanted(self) -> float | None:
        low, high = self._border()
        if low is None and high is None:
            return self._lowest
        if high is None and low is not None and low.rate < self._highest:
            return min(2.0 * low.rate, self._highest)
        if low is not None and high is not None and high.rate > (1.0 + self._tolerance) * low.rate:
            return sqrt(low.rate * high.rate)
        sides = [side for side in (low, high) if side is not None and len(side.runs) < self._repeats]
        return min(sides, key=lambda side: len(side.runs)).rate if sides else None

    def _border(self) -> tuple[Tried | None, Tried | None]:
        """The lowest rate that fails, and the highest that holds below it."""
        low = None
        for tried in self.tried:
            if not self.holds(tried):
                return low, tried
            low = tried
        return low, None

    def _certainty(self, low: Tried | None, high: Tried | None) -> Certainty:
        if self._wanted() is not None:
            return Certainty.UNFINISHED
        sides = [side for side in (low, high) if side is not None]
        if any(len(side.runs) == 1 for side in sides):
            return Certainty.SINGLE
        return Certainty.CLEAR if all(map(self._clear, sides)) else Certainty.CLOSE

    def _clear(self, side: Tried) -> bool:
        below, above = side.interval
        if self.holds(side):
            return below >= self._target and all(share >= self._target for share in side.shares)
        return above < self._target and all(share < self._target for share in side.shares)
