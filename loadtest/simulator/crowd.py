"""Whoever is to be served: they come when the workload says, sit where a seat is free, and ask; the others stand.

arrival -> seat -> ask -> over, and the seat is free: for the first who stands, or for who follows this one
        \\-> stands, and is too late from ``until_s`` on
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf

from loadtest.request import Request
from loadtest.simulator.arrivals import Arrivals
from loadtest.simulator.events import Events

Ask = Callable[[int, Request], None]
"""A request, by its place in the workload, is served from now on."""


class Crowd:
    """seats: so many at a time, None: all. until_s: nobody asks from then on, whoever waits for a seat included."""

    def __init__(
        self, arrivals: Arrivals, events: Events, ask: Ask, *, seats: int | None = None, until_s: float = inf
    ) -> None:
        self._arrivals, self._events, self._ask = arrivals, events, ask
        self._seats, self._until_s = seats, until_s
        self._seated = 0
        self._standing: deque[tuple[int, Request]] = deque()
        self.open = 0
        """Asked and not over, or sure to ask once the one before has had its pause."""

    @property
    def goes_on(self) -> bool:
        """Somebody is served, or will ask."""
        return bool(self.open) or self._arrivals.next_s is not None

    def next_s(self, *, latest_s: float) -> float:
        """When somebody may ask again, as far as that is known; ``latest_s`` where it is later or never."""
        if self._arrivals.closed or self._seats is not None:
            return self._events.now  # as soon as another one has ended
        return latest_s if self._arrivals.next_s is None else min(latest_s, self._arrivals.next_s)

    def expect(self) -> None:
        """Whoever comes next, comes before anything else of that moment."""
        at_s = self._arrivals.next_s
        if at_s is not None:
            self._events.at(at_s, self._comes, early=True)

    def over(self, place: int, *, finished: bool) -> None:
        """One is served. Who follows one that was rejected or left never asks: nobody is there to."""
        self.open -= 1
        self._seated -= 1
        if self._standing:
            self._events.after(0.0, partial(self._sit, *self._standing.popleft()))
        if finished:
            for follower, request in self._arrivals.followers(place):
                self.open += 1
                self._events.after(request.at_s, partial(self._sit, follower, request))

    def _comes(self) -> None:
        place, request = self._arrivals.take()
        self.expect()
        self.open += 1
        self._sit(place, request)

    def _sit(self, place: int, request: Request) -> None:
        if self._events.now >= self._until_s:
            self.open -= 1 + len(self._standing)  # who stands is too late as well
            self._standing.clear()
        elif self._seats is not None and self._seated >= self._seats:
            self._standing.append((place, request))
        else:
            self._seated += 1
            self._ask(place, request)
