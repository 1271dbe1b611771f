"""An engine in virtual time: it runs the batches that its worker's batcher makes, one at a time, at its pace.

Steps that only decode are planned as one event, a *flight* of several steps, and told apart again when something
comes from outside (``interrupt``): the step that was under way by then ends as it would have.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.simulator.coasting import CoastingBatcher
from loadtest.simulator.events import Event, Events
from loadtest.simulator.pace import Pace
from loadtest.simulator.parts import Parts
from scheduler.batch import Batch
from scheduler.correction import Correction


@dataclass(slots=True)
class _Flight:
    """A batch that runs, and when it and those like it behind it end."""

    batch: Batch
    ends: list[float]
    lands: Event


class Engine:
    """coasting False: every step is an event of its own. correction None: nobody corrects what it is believed to take.

    landed: the last step that was planned has ended, and all are told.
    """

    def __init__(
        self,
        batcher: CoastingBatcher,
        parts: Parts,
        pace: Pace,
        events: Events,
        *,
        coasting: bool,
        correction: Correction | None,
        landed: Callable[[], None],
    ) -> None:
        self._batcher, self._parts, self._pace, self._events = batcher, parts, pace, events
        self._coasting, self._correction, self._tell = coasting, correction, landed
        self._flight: _Flight | None = None

    @property
    def decoded(self) -> int:
        """Tokens that have come since the flight began and are not applied yet."""
        flight = self._flight
        return 0 if flight is None else bisect_right(flight.ends, self._events.now) * len(flight.batch.slices)

    def start(self) -> None:
        """The next batch, if there is one and none is under way."""
        if self._flight is not None:
            return
        now = self._events.now
        batch = self._batcher.next(now=now)
        if batch is None:
            return
        steps = self._batcher.alike(batch, now=now) if self._coasting else 1
        if steps > 1:
            steps = min(steps, self._parts.until_enough(batch))
        ends = self._pace.ends(batch, steps, now=now)
        if steps > 1:
            del ends[bisect_left(ends, self._batcher.quiet_until_s(now=now)) + 1 :]
        if self._correction is not None:
            self._correction.ran(batch, ends[0] - now)
            self._batcher.profile = self._correction.lately(now=ends[0])
        self._flight = _Flight(batch, ends, self._events.at(ends[-1], self._landed))
        self._parts.began(batch)

    def interrupt(self) -> None:
        """Of what flies, only the step under way is sure to end as planned."""
        flight = self._flight
        if flight is None or len(flight.ends) == 1:
            return
        self._catch_up()
        flight = self._flight
        if flight is not None and len(flight.ends) > 1:
            flight.lands.cancel()
            flight.ends = flight.ends[:1]
            flight.lands = self._events.at(flight.ends[0], self._landed)

    def stop(self) -> None:
        """What has ended by now counts; the step under way never ends."""
        flight = self._flight
        if flight is not None:
            self._catch_up()
            flight.lands.cancel()
            self._flight = None

    def _landed(self) -> None:
        if self._flight is not None:  # else whoever came in this very moment was told of its last step
            self._catch_up()
        self._tell()

    def _catch_up(self) -> None:
        """Apply every step that has ended by now; the one under way is in flight then, with those planned behind it."""
        flight = self._flight
        assert flight is not None
        done, planned = bisect_right(flight.ends, self._events.now), len(flight.ends)
        if not done:
            return
        self._flight = None
        self._parts.applied(flight.batch, end_s=flight.ends[0])
        coasted = min(done, planned - 1) - 1
        if coasted > 0:
            self._parts.coasted(flight.batch, flight.ends[1 : 1 + coasted])
        if planned == 1:
            return
        batch = self._batcher.next(now=flight.ends[coasted])
        assert batch is not None, "who decodes goes on"
        if done == planned:
            self._parts.applied(batch, end_s=flight.ends[-1])
        else:
            self._flight = _Flight(batch, flight.ends[done:], flight.lands)
