"""Virtual time: what happens next, and in which order.

Events of one moment happen in the order in which they were planned, so a run is a function of its inputs; those
that come from outside (``early``) before all others.
"""

from collections.abc import Callable
from heapq import heappop, heappush

Act = Callable[[], object]

EARLY = 1 << 62
"""More than will ever be planned."""


class Event:
    """Something planned; ``cancel`` takes it back."""

    __slots__ = ("act", "at_s")

    def __init__(self, at_s: float, act: Act) -> None:
        self.at_s = at_s
        self.act: Act | None = act

    def cancel(self) -> None:
        self.act = None


class Events:
    """The heap, and the time; ``now`` is in seconds and begins at 0."""

    def __init__(self) -> None:
        self.now = 0.0
        self.happened = 0
        self._heap: list[tuple[float, int, Event]] = []
        self._planned = 0

    def at(self, at_s: float, act: Act, *, early: bool = False) -> Event:
        assert at_s >= self.now, f"{at_s} s is in the past: it is {self.now} s"
        event = Event(at_s, act)
        self._planned += 1
        heappush(self._heap, (at_s, self._planned - EARLY if early else self._planned, event))
        return event

    def after(self, delay_s: float, act: Act) -> Event:
        return self.at(self.now + delay_s, act)

    def run(self) -> None:
        """Until nothing is planned any more."""
        heap = self._heap
        while heap:
            at_s, _, event = heappop(heap)
            act = event.act
            if act is not None:
                self.now = at_s
                self.happened += 1
                act()
