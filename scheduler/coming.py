"""Names that placements will make stores hold: the prefixes that somebody is computing or sending now.

A run of names is found by its first one: names are chained, so a prompt that has it has the rest of the
run up to where it differs, which bisection finds. Booking a run costs the same however long it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kvstore.names import BlockName
from scheduler.vocabulary import StoreId


@dataclass(frozen=True, slots=True)
class Coming:
    """Consecutive names of one prompt, at least one, and when the last of them should be in that store."""

    store: StoreId
    names: tuple[BlockName, ...]
    ready_s: float


class ComingIndex:
    """All runs that are booked."""

    def __init__(self) -> None:
        self._runs: dict[BlockName, list[Coming]] = {}

    def add(self, run: Coming) -> None:
        self._runs.setdefault(run.names[0], []).append(run)

    def remove(self, run: Coming) -> None:
        runs = self._runs[run.names[0]]
        runs.remove(run)
        if not runs:
            del self._runs[run.names[0]]

    def along(self, names: Sequence[BlockName]) -> Iterator[tuple[int, int, Coming]]:
        """Runs that begin within this prompt, in its order: (names before it, names up to where it ends or differs)."""
        if not self._runs or self._runs.keys().isdisjoint(names):
            return
        for start, name in enumerate(names):
            for run in self._runs.get(name, ()):
                yield start, start + _common(names, start, run.names), run


def _common(names: Sequence[BlockName], start: int, run: tuple[BlockName, ...]) -> int:
    """How many names of the run follow from there; the first does."""
    low, high = 1, min(len(run), len(names) - start)
    while low < high:
        middle = (low + high + 1) // 2
        if names[start + middle - 1] == run[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low
