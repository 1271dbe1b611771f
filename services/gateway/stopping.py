"""Find stop strings in text that arrives in pieces.

Text that may be the start of a stop string is held back until it is known not to
be one; so what was given out is never taken back, and where a stream ends does not
depend on how it was cut into pieces: it ends where the first stop string is complete.

    given out so far | held (a proper prefix of a stop string) | new text
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stopped:
    """text: the last to be given out. stop: the string that ended it."""

    text: str
    stop: str


class StopStrings:
    """The stop strings of one stream, none of them empty."""

    __slots__ = ("_held", "_include", "_stops")

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        assert all(stops), "an empty stop string would stop everything"
        self._stops = tuple(stops)
        self._include = include
        self._held = ""

    def feed(self, text: str, *, armed: bool = True) -> str | Stopped:
        """What can be given out now; Stopped once a stop string is complete.

        Unarmed (before min_tokens), strings that become complete in ``text`` do not count.
        """
        if not self._stops or not text:
            return text
        before = len(self._held)
        seen = self._held + text
        if armed:
            found = self._first_complete(seen, before)
            if found is not None:
                start, stop = found
                self._held = ""
                return Stopped(seen[: start + len(stop)] if self._include else seen[:start], stop)
        keep = self._longest_start(seen)
        self._held = seen[len(seen) - keep :]
        return seen[: len(seen) - keep]

    def rest(self) -> str:
        """What is held back, once nothing more will come."""
        held, self._held = self._held, ""
        return held

    def _first_complete(self, seen: str, before: int) -> tuple[int, str] | None:
        """The match that ends first, the longest of those that end there; only ends after ``before`` count."""
        best: tuple[int, int, str] | None = None
        for stop in self._stops:
            start = seen.find(stop, max(0, before - len(stop) + 1))
            if start >= 0:
                candidate = (start + len(stop), start, stop)
                if best is None or candidate < best:
                    best = candidate
        return None if best is None else (best[1], best[2])

    def _longest_start(self, seen: str) -> int:
        """The length of the longest end of ``seen`` that a stop string starts with, without being whole."""
        longest = 0
        for stop in self._stops:
            start = seen.find(stop[0], max(0, len(seen) - len(stop) + 1))
            while start >= 0 and len(seen) - start > longest:
                if stop.startswith(seen[start:]):
                    longest = len(seen) - start
                    break
                start = seen.find(stop[0], start + 1)
        return longest
