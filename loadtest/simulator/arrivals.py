"""Who comes when: of a workload only the next one is held, so it may be longer than fits in memory.

Requests that follow others wait for their end; an endless or streamed workload has none of those.
"""

from collections.abc import Iterable, Iterator, Sequence

from loadtest.request import Request

Arrival = tuple[int, Request]
"""A request and its place in the workload."""


class Arrivals:
    """requests: in any order where they are a sequence; else in the order of their times, none following another."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._followers: dict[int, list[Arrival]] = {}
        self._coming = self._sorted(requests) if isinstance(requests, Sequence) else enumerate(requests)
        self._next = next(self._coming, None)

    def _sorted(self, requests: Sequence[Request]) -> Iterator[Arrival]:
        for place, request in enumerate(requests):
            if request.after is not None:
                self._followers.setdefault(request.after, []).append((place, request))
        first = [(place, request) for place, request in enumerate(requests) if request.after is None]
        return iter(sorted(first, key=lambda arrival: arrival[1].at_s))

    @property
    def next_s(self) -> float | None:
        """When the next one comes; None: nobody does who follows nobody."""
        return None if self._next is None else self._next[1].at_s

    @property
    def closed(self) -> bool:
        """Whether anybody follows another, so that the next one may come at any moment."""
        return bool(self._followers)

    def take(self) -> Arrival:
        """The next one."""
        taken = self._next
        assert taken is not None, "somebody is still to come"
        self._next = next(self._coming, None)
        if self._next is not None:
            assert self._next[1].after is None, "who follows another comes in a sequence"
            assert self._next[1].at_s >= taken[1].at_s, "requests come in the order of their times"
        return taken

    def followers(self, place: int) -> Sequence[Arrival]:
        """Who comes once that one has ended."""
        return self._followers.get(place, ())
