"""How many prefill hosts hold the hottest blocks of a trace, as time goes by.

Hot is what the whole trace asks for most often: known afterwards, so to nobody who places.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.names import BlockName, block_names
from loadtest.request import text
from loadtest.simulator.record import Record
from loadtest.simulator.simulation import Simulation
from loadtest.traces import Row, requests
from loadtest.traces.trace import BLOCK_TOKENS

CLASSES = (10, 100, 1000)
"""The hottest ten, hundred and thousand blocks."""


@dataclass(frozen=True, slots=True)
class Copies:
    """At one moment: for each of ``CLASSES``, on how many prefill hosts one of its blocks is, in the mean."""

    at_s: float
    mean: tuple[float, ...]


class CopyCounter:
    """Looks when a request is over, and at most every ``every_s``."""

    def __init__(self, simulation: Simulation, rows: Sequence[Row], *, every_s: float) -> None:
        self.copies: list[Copies] = []
        self._simulation, self._every_s, self._next_s = simulation, every_s, 0.0
        self._names = _hottest(simulation.root, rows, max(CLASSES))
        self._stores = [worker.store for worker in simulation.workers.values() if worker.role.prefills]

    def over(self, record: Record) -> None:
        now = self._simulation.events.now
        if now < self._next_s:
            return
        self._next_s = now + self._every_s
        held = Counter(name for store in self._stores for name in store.held_names())
        found = [held[name] for name in self._names]
        mean = tuple(sum(found[:size]) / max(1, len(found[:size])) for size in CLASSES)
        self.copies.append(Copies(now, mean))


def _hottest(root: BlockName, rows: Sequence[Row], number: int) -> list[BlockName]:
    """By how many requests have them, ties by which came first; a prompt's last, partial block is nobody else's."""
    asked = Counter(name for row in rows for name in row.hash_ids[:-1])
    wanted = {name: place for place, (name, _) in enumerate(asked.most_common(number))}
    found: dict[int, BlockName] = {}
    for row, request in zip(rows, requests(rows), strict=True):
        missing = [name for name in row.hash_ids[:-1] if name in wanted and name not in found]
        if missing:
            names = block_names(root, text(request.prompt), BLOCK_TOKENS)
            found |= {name: names[row.hash_ids.index(name)] for name in missing}
    return [found[name] for name in wanted]
