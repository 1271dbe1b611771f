"""A cluster, a workload, and what becomes of it: the simulator's one entrance."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, assert_never

from kvstore.names import BlockName, root_name
from loadtest.garbage import seldom_collected
from loadtest.request import Request
from loadtest.simulator.arrivals import Arrivals
from loadtest.simulator.crowd import Crowd
from loadtest.simulator.events import Events
from loadtest.simulator.faults import Death, Fault, Silence, Slow
from loadtest.simulator.hosts import hosts
from loadtest.simulator.links import Links
from loadtest.simulator.patience import ONCE, Patience
from loadtest.simulator.pools import Sample, sample
from loadtest.simulator.record import Record
from loadtest.simulator.reports import Reports
from loadtest.simulator.spec import REPORT_S, Spec
from loadtest.simulator.story import Cluster, Story
from scheduler.conductor import Conductor
from scheduler.snapshot import ClusterSnapshot

if TYPE_CHECKING:
    from random import Random


def _nobody(record: Record) -> None:
    """Nobody wants to know before the end."""


class Simulation:
    """See the module. chance: for the beats of the hosts. keep_times: each record has the time of every token."""

    def __init__(self, spec: Spec, conductor: Conductor, *, chance: "Random", keep_times: bool = False) -> None:
        self.events = Events()
        machine = spec.machine
        self.links = Links(
            self.events,
            bytes_per_s=machine.link_bytes_per_s,
            latency_s=machine.link_latency_s,
            slow=dict(spec.slow_links),
        )
        self.block_tokens = spec.block_tokens
        made = hosts(spec, self.events, self.links)
        self.stores, self.workers = made.stores, made.workers
        self._conductor = conductor
        self._cluster = Cluster(
            self.events,
            conductor,
            self.workers,
            self.stores,
            root_name(made.identity.fingerprint),
            spec.block_tokens,
            spec.max_new_tokens,
            spec.machine.max_model_len,
            keep_times,
            spec.enforced and spec.coupled is None,
            partial(chance.uniform, 0.0, spec.calls_s) if spec.calls_s else None,
        )
        self._reports = Reports(self.workers, conductor, self.events, every_s=spec.report_s, chance=chance)
        self._crowd = Crowd(Arrivals(()), self.events, self._ask)
        self._leaving: Mapping[int, int] = {}
        self._patience = ONCE
        self._tell: Callable[[Record], None] = _nobody
        self._ticked_s = 0.0
        self._records: list[Record] = []
        self.samples: list[Sample] = []
        self._ran = False

    def run(
        self,
        requests: Iterable[Request],
        *,
        faults: Sequence[Fault] = (),
        over: Callable[[Record], None] = _nobody,
        sample_s: float | None = None,
        seats: int | None = None,
        until_s: float = inf,
        leaving: Mapping[int, int] | None = None,
        patience: Patience = ONCE,
    ) -> list[Record]:
        """What became of each that was asked, in the order of the workload; ``over`` is told as it happens.

        requests: a sequence; or an iterator of those of an open workload in the order of their times, however many.
        sample_s: how often to look at the pools, see ``samples``. seats: so many at a time, the others ask when one is
        free, in the order of their coming. until_s: nobody asks from then on, whoever waits for a seat included.
        leaving: by place, after how many tokens its client leaves. patience: what clients do that are refused.
        """
        assert not self._ran, "a simulation runs once"
        assert len(self.stores) == len(self.workers) or not any(isinstance(fault, Death) for fault in faults), (
            "a host that several workers share does not die"
        )
        self._ran, self._tell, self._leaving, self._patience = True, over, leaving or {}, patience
        self._crowd = Crowd(Arrivals(requests), self.events, self._ask, seats=seats, until_s=until_s)
        self._reports.begin(self._crowd)
        self._crowd.expect()
        if sample_s is not None:
            self._sample(sample_s)
        for fault in faults:
            self.events.at(fault.at_s, partial(self._goes_wrong, fault))
        with seldom_collected():
            self.events.run()
        assert not self._crowd.open, f"{self._crowd.open} requests hang"
        return sorted(self._records, key=lambda record: record.place)

    @property
    def idle(self) -> bool:
        """Nobody is served, and nobody will ask."""
        return not self._crowd.goes_on

    def _ask(self, place: int, request: Request) -> None:
        now = self.events.now
        if now - self._ticked_s >= REPORT_S:
            self._ticked_s = now
            self._conductor.tick(now=now)
        self._try(place, request, ())

    def _try(self, place: int, request: Request, told_s: tuple[float, ...]) -> None:
        over, wanted = partial(self._tried, request), self._leaving.get(place)
        Story(request, place, self._cluster, over, wanted=wanted, told_s=told_s).begin()

    def _tried(self, request: Request, record: Record) -> None:
        after_s = self._patience.again_s(record)
        if after_s is None:
            self._over(record)
            return
        told_s = (*record.told_s, self.events.now + after_s)
        self.events.after(after_s, partial(self._try, record.place, request, told_s))

    def _over(self, record: Record) -> None:
        self._records.append(record)
        self._tell(record)
        self._crowd.over(record.place, finished=record.ended_s is not None)

    def _sample(self, every_s: float) -> None:
        self.samples.append(sample(self.workers.values(), now=self.events.now))
        if self._crowd.goes_on:
            self.events.after(every_s, partial(self._sample, every_s))

    def _goes_wrong(self, fault: Fault) -> None:
        """What lasts ends by itself; of a host that is dead already nothing more can be had."""
        worker = list(self.workers.values())[fault.host]
        if worker.dead:
            return
        match fault:
            case Death():
                worker.store.die()
                worker.die()
                self.events.at(fault.back_s, worker.begin)
            case Slow():
                worker.slow(fault.factor)
                self.events.at(fault.until_s, partial(worker.slow, 1.0))
            case Silence():
                self._reports.silence(worker.name, until_s=fault.until_s)
            case _:
                assert_never(fault)

    def snapshot(self) -> ClusterSnapshot:
        """What the conductor believes now, and what it has done."""
        return self._conductor.snapshot()

    @property
    def root(self) -> BlockName:
        """What the names of this cluster's blocks descend from."""
        return self._cluster.root

    def check(self) -> None:
        """Assert, after a run, that everything conserves and nothing is held for nobody."""
        for worker in self.workers.values():
            worker.check()
        for store in self.stores.values():
            store.check(idle=True)
