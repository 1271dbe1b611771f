"""What one placement got, to be told with its outcome: TTFT and TPOT as conductors predict them. Pure.

    asked ---- ttft ----> first tokens --> tokens --> .. --> last tokens
                               |------- tpot, per token -------|

From the ask that was answered on: what the gateway did before it (text, waiting for somebody to be there)
is nobody's prediction. A listener that reads slowly would measure itself, so its TPOT is not told.
"""

from scheduler.vocabulary import Measured

HELD_UP = 0.1
"""The share of the time between first and last tokens that a listener may take: telling a token costs 0.1 ms, so
1 % of a step of 10 ms. It is not subtracted, as workers go on meanwhile."""


class Pace:
    """Of one placement; all times by one clock."""

    def __init__(self, *, asked: float) -> None:
        self._asked = asked
        self._first: float | None = None
        self._last = asked
        self._more = 0  # tokens after the first ones
        self._held_s = 0.0  # by the listener, up to the last tokens
        self._holding_s = 0.0  # since then

    def heard(self, count: int, *, now: float) -> None:
        """That many tokens came."""
        if self._first is None:
            self._first = now
        else:
            self._more += count
        self._held_s, self._holding_s = self._held_s + self._holding_s, 0.0
        self._last = now

    def told(self, *, now: float) -> None:
        """The listener has them."""
        self._holding_s = now - self._last

    @property
    def measured(self) -> Measured | None:
        """None before the first token."""
        if self._first is None:
            return None
        lasted_s = self._last - self._first
        known = self._more > 0 and self._held_s <= HELD_UP * lasted_s
        return Measured(self._first - self._asked, lasted_s / self._more if known else None)
