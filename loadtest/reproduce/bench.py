"""What experiments run on: one trace, one seed, and simulations that several of them may share."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock

from loadtest import profiles
from loadtest.reproduce.copies import Copies
from loadtest.reproduce.run import Made, Run, make
from loadtest.reproduce.table import Cell, Table
from loadtest.simulator.machine import Machine
from loadtest.simulator.pools import Sample
from loadtest.simulator.record import Record
from loadtest.traces import Row

__all__ = ["Bench", "Cell", "Run", "Table", "good", "mean_ttft_s"]

PART = 2000
"""Requests: the published trace's first ten minutes, its busiest, for experiments that compare many clusters."""

Maker = Callable[[list[Row], int, Run], Made]


@dataclass(slots=True)
class Bench:
    """rows: the trace. maker: makes a run. Experiments may ask from several threads; each run is made once."""

    rows: list[Row]
    seed: int
    profile: str = "a800x8-llama3-70b"
    maker: Maker = make
    _made: dict[Run, Future[Made]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @property
    def machine(self) -> Machine:
        return profiles.load(self.profile)

    def run(self, run: Run) -> list[Record]:
        return self._of(run).records

    def samples(self, run: Run) -> list[Sample]:
        """Of both pools, where ``run`` asks for them."""
        return self._of(run).samples

    def copies(self, run: Run) -> list[Copies]:
        """Of the hottest blocks, where ``run`` asks for them."""
        return self._of(run).copies

    def _of(self, run: Run) -> Made:
        with self._lock:
            known = run in self._made
            future = self._made.setdefault(run, Future())
        if not known:
            try:
                future.set_result(self.maker(self.rows, self.seed, run))
            except BaseException as error:
                future.set_exception(error)
                raise
        return future.result()


def mean_ttft_s(records: list[Record]) -> float:
    """Of those that had a first token, rounded to milliseconds."""
    found = [record.ttft_s for record in records if record.ttft_s is not None]
    return round(sum(found) / len(found), 3)


def good(records: list[Record], *, ttft_s: float, tbt_s: float) -> float:
    """The share of offered requests that finished within both."""
    return round(sum(record.within(ttft_s, tbt_s) for record in records) / len(records), 4)


def block_hit_rate(records: list[Record]) -> float:
    """Of all blocks asked for."""
    blocks = sum(record.blocks for record in records)
    return round(sum(record.cached_blocks for record in records) / blocks, 3)
