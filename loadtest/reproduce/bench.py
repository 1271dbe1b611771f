"""What experiments run on: one trace, one seed, and simulations that several of them may share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from loadtest import profiles
from loadtest.simulator.machine import Machine
from loadtest.simulator.record import Record
from loadtest.simulator.simulation import Sample, Simulation, Spec
from loadtest.traces import Row, requests
from scheduler.admission import Promise
from scheduler.conductor import NO_PROMISE, Conductor

Cell = str | float | int | None


@dataclass(frozen=True, slots=True)
class Table:
    """One experiment's result. note: what differs from the paper's setting, in sentences."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str


@dataclass(frozen=True, slots=True)
class Run:
    """One simulation, as a key: equal runs are made once."""

    spec: Spec
    policy: str = "kvcache-centric"
    speed: float = 1.0
    admission: str = "off"
    promise: Promise = NO_PROMISE
    sample_s: float | None = None


@dataclass(slots=True)
class Bench:
    """rows: the trace. began: told of each simulation before it runs."""

    rows: list[Row]
    seed: int
    profile: str = "a800x8-llama3-70b"
    began: Callable[[Run], None] = lambda run: None
    _done: dict[Run, tuple[list[Record], list[Sample]]] = field(default_factory=dict)

    @property
    def machine(self) -> Machine:
        return profiles.load(self.profile)

    def run(self, run: Run) -> list[Record]:
        return self._of(run)[0]

    def samples(self, run: Run) -> list[Sample]:
        """Of both pools, where ``run`` asks for them."""
        return self._of(run)[1]

    def _of(self, run: Run) -> tuple[list[Record], list[Sample]]:
        if run not in self._done:
            self.began(run)
            machine = run.spec.machine
            conductor = Conductor(
                policy=run.policy,
                admission=run.admission,
                promise=run.promise,
                seed=self.seed,
                link_bytes_per_s=machine.link_bytes_per_s,
                ssd_bytes_per_s=machine.ssd_bytes_per_s,
            )
            simulation = Simulation(run.spec, conductor, chance=Random(self.seed))
            records = simulation.run(requests(self.rows, speed=run.speed), sample_s=run.sample_s)
            self._done[run] = records, simulation.samples
        return self._done[run]


def mean_ttft_s(records: list[Record]) -> float:
    """Of those that had a first token, rounded to milliseconds."""
    found = [record.ttft_s for record in records if record.ttft_s is not None]
    return round(sum(found) / len(found), 3)


def good(records: list[Record], *, ttft_s: float, tbt_s: float) -> float:
    """The share of offered requests that finished within both."""
    return round(sum(record.within(ttft_s, tbt_s) for record in records) / len(records), 4)
