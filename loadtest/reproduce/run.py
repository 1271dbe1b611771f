"""One simulation that an experiment wants, and what came of it: a function of the trace, the seed and the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from loadtest.reproduce.copies import Copies, CopyCounter
from loadtest.simulator.pools import Sample
from loadtest.simulator.record import Record
from loadtest.simulator.simulation import Simulation
from loadtest.simulator.spec import Spec
from loadtest.traces import Row, requests
from scheduler.conductor import Conductor
from scheduler.vocabulary import NO_PROMISE, Promise


@dataclass(frozen=True, slots=True)
class Run:
    """A key: equal runs are made once.

    first: so many requests of the trace only. sample_s: how often both pools are looked at; copies_s: how often it
    is counted where the hottest blocks are.
    """

    spec: Spec
    policy: str = "kvcache-centric"
    speed: float = 1.0
    admission: str = "off"
    promise: Promise = NO_PROMISE
    sample_s: float | None = None
    first: int | None = None
    copies_s: float | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a run; samples and copies where it asks for them."""

    records: list[Record]
    samples: list[Sample]
    copies: list[Copies]


def make(rows: Sequence[Row], seed: int, run: Run) -> Made:
    machine, rows = run.spec.machine, rows[: run.first]
    conductor = Conductor(
        policy=run.policy,
        admission=run.admission,
        promise=run.promise,
        seed=seed,
        link_bytes_per_s=machine.link_bytes_per_s,
        ssd_bytes_per_s=machine.ssd_bytes_per_s,
    )
    simulation = Simulation(run.spec, conductor, chance=Random(seed))
    workload = requests(rows, speed=run.speed)
    if run.copies_s is None:
        return Made(simulation.run(workload, sample_s=run.sample_s), simulation.samples, [])
    counter = CopyCounter(simulation, rows, every_s=run.copies_s)
    return Made(simulation.run(workload, sample_s=run.sample_s, over=counter.over), simulation.samples, counter.copies)
