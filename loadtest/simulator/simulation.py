"""A cluster, a workload, and what becomes of it: the simulator's one entrance.

Every host has one worker and one store. Hosts report to the conductor on their own beat, as live processes do;
reports that nobody would read before the next are not composed, since the conductor believes only the latest.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import floor, inf
from typing import TYPE_CHECKING, assert_never

from kvstore.catalog import Catalog
from kvstore.eviction import policy
from kvstore.layout import PAGE_BYTES, Identity, KvLayout
from kvstore.names import BlockName, root_name
from loadtest.request import Request
from loadtest.simulator.arrivals import Arrivals
from loadtest.simulator.disturbed import Disturbed
from loadtest.simulator.events import Events
from loadtest.simulator.faults import Death, Fault, Silence, Slow
from loadtest.simulator.garbage import seldom_collected
from loadtest.simulator.links import Links
from loadtest.simulator.machine import Machine
from loadtest.simulator.record import Record
from loadtest.simulator.store import Ssd, Store
from loadtest.simulator.story import Cluster, Story
from loadtest.simulator.worker import Worker
from scheduler.conductor import Conductor
from scheduler.progress import BatchLimits
from scheduler.snapshot import ClusterSnapshot
from scheduler.vocabulary import Role, StoreId, WorkerId

if TYPE_CHECKING:
    from random import Random

REPORT_S = 0.1
"""The live services' interval."""

STEP_S = 0.25
"""The longest step that has prefill in it; the live worker's bound."""

SILENCE_S = 1.0
"""The longest that a host says nothing, though nobody asks: the conductor believes it dead after 1.5 s."""


def _nobody(record: Record) -> None:
    """Nobody wants to know before the end."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Both pools at one moment, the mean of their workers: prefill seconds queued, seconds of a decode step."""

    at_s: float
    queued_s: float
    step_s: float


@dataclass(frozen=True, slots=True)
class Coupled:
    """What a coupled node does: find prompts on its own device again, cut prompts into chunks beside decodes."""

    prefix_cache: bool = True
    chunked_prefill: bool = True


@dataclass(frozen=True, slots=True)
class Spec:
    """A cluster. dram_bytes: of each host's store, None for the machine's; ssd_bytes: 0 for none.

    prefill_seats: sequences that a prefill worker admits at a time. Whoever is admitted looks for its prefix then, and
    holds slots for its hand-over from then on; so with many seats and a long queue both happen too early.
    coupled: every mixed worker for itself, as engines without a shared cache are; None: with stores.
    coasting: see ``CoastingBatcher``. report_s: how often hosts report.
    enforced: workers are told what was promised, and order their queues by it.
    hosts: how many stores the workers share, as those of ``moonpool up --hosts`` do; None: each has its own.
    disturbed: how far engines are from their profiles; None: not at all, and nobody corrects them.
    """

    machine: Machine
    prefill: int
    decode: int
    mixed: int = 0
    block_tokens: int = 512
    dram_bytes: int | None = None
    ssd_bytes: int = 0
    eviction: str = "lru"
    max_num_seqs: int = 256
    prefill_seats: int = 8
    max_num_batched_tokens: int = 8192
    max_waiting: int = 1_000_000
    max_new_tokens: int = 2048
    coupled: Coupled | None = None
    coasting: bool = True
    report_s: float = REPORT_S
    enforced: bool = True
    hosts: int | None = None
    disturbed: Disturbed | None = None

    def __post_init__(self) -> None:
        if self.decode + self.mixed < 1:
            raise ValueError("a cluster needs a worker that decodes")
        if self.coupled is not None and (self.prefill or self.decode):
            raise ValueError("coupled workers are mixed ones; nobody could hand over to them")
        if min(self.prefill, self.decode, self.mixed) < 0:
            raise ValueError("there can't be fewer than 0 workers")
        if self.block_tokens < 1 or self.block_tokens > self.machine.device_tokens:
            raise ValueError(
                f"the device has room for {self.machine.device_tokens} tokens: no block of {self.block_tokens}"
            )
        if self.hosts is not None and self.hosts < 1:
            raise ValueError("there can't be fewer than 1 hosts")
        if not 0.0 < self.report_s <= SILENCE_S:
            raise ValueError(
                f"hosts report more than every {SILENCE_S} s, or are believed dead; not every {self.report_s}"
            )
        if self.block_bytes > self.store_bytes:
            raise ValueError(f"a store of {self.store_bytes} bytes has no room for a block of {self.block_bytes}")

    @property
    def block_bytes(self) -> int:
        return self.block_tokens * self.machine.kv_bytes

    @property
    def store_bytes(self) -> int:
        return self.machine.dram_bytes if self.dram_bytes is None else self.dram_bytes


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _host(spec: Spec, role: Role, place: int) -> int:
    """Prefill workers on the first half of the hosts, decode workers on the others, mixed ones everywhere."""
    hosts = spec.hosts or 1
    first = (hosts + 1) // 2
    if role is Role.MIXED or hosts == 1 or not spec.prefill:
        return place % hosts
    return place % first if role is Role.PREFILL else first + place % (hosts - first)


def _limits(spec: Spec) -> BatchLimits:
    """Without chunks a prompt is computed in one step, however long, and whoever decodes waits for it."""
    tokens, step_s = spec.max_num_batched_tokens, STEP_S
    if spec.coupled is not None and not spec.coupled.chunked_prefill:
        tokens, step_s = spec.machine.max_model_len, inf
    return BatchLimits(spec.max_num_seqs, tokens, spec.machine.max_model_len, spec.max_waiting, step_s)


class Simulation:
    """See the module. chance: for the beats of the hosts. keep_times: each record has the time of every token."""

    def __init__(self, spec: Spec, conductor: Conductor, *, chance: "Random", keep_times: bool = False) -> None:
        self.events = Events()
        machine = spec.machine
        self.links = Links(self.events, bytes_per_s=machine.link_bytes_per_s, latency_s=machine.link_latency_s)
        self.block_tokens = spec.block_tokens
        layout = KvLayout(spec.block_tokens, (spec.block_bytes,), "simulated")
        weights = hashlib.sha256(machine.name.encode()).hexdigest()
        identity = Identity(machine.name, weights, "simulated", spec.block_tokens, layout.digest)
        limits = _limits(spec)
        prefill_limits = replace(limits, max_num_seqs=spec.prefill_seats)
        self.stores: dict[StoreId, Store] = {}
        self.workers: dict[WorkerId, Worker] = {}
        for role, number in ((Role.PREFILL, spec.prefill), (Role.DECODE, spec.decode), (Role.MIXED, spec.mixed)):
            for place in range(number):
                home = StoreId(
                    f"store of {role} {place}" if spec.hosts is None else f"store {_host(spec, role, place)}"
                )
                store = self.stores.get(home) or Store(
                    home,
                    lambda: Catalog(policy=policy(spec.eviction), disk_policy=policy(spec.eviction)),
                    events=self.events,
                    links=self.links,
                    stores=self.stores,
                    identity=identity,
                    layout=layout,
                    slots=spec.store_bytes // layout.slot_bytes,
                    ssd=Ssd(self.events, machine.ssd_bytes_per_s) if spec.ssd_bytes else None,
                    ssd_slots=spec.ssd_bytes // (layout.slot_bytes + PAGE_BYTES),
                )
                name = WorkerId(f"{role} {place}")
                self.stores[store.name] = store
                self.workers[name] = Worker(
                    name,
                    role,
                    store,
                    machine,
                    prefill_limits if role is Role.PREFILL else limits,
                    events=self.events,
                    links=self.links,
                    identity=identity,
                    coasting=spec.coasting,
                    private=spec.coupled is not None,
                    device_cache=spec.coupled is None or spec.coupled.prefix_cache,
                    disturbed=spec.disturbed,
                )
        self._conductor = conductor
        self._cluster = Cluster(
            self.events,
            conductor,
            self.workers,
            self.stores,
            root_name(identity.fingerprint),
            spec.block_tokens,
            spec.max_new_tokens,
            keep_times,
            spec.enforced and spec.coupled is None,
        )
        self._report_s = spec.report_s
        self._beats = {name: spec.report_s * chance.random() for name in self.workers}
        self._tells = {worker.store.name: name for name, worker in reversed(self.workers.items())}
        """Of each store, the worker with whose reports its own go."""
        self._ticked_s = 0.0
        self._lacking: set[StoreId] = set()  # stores of which the conductor wants all names
        self._silent_s: dict[WorkerId, float] = {}
        self.samples: list[Sample] = []
        self._arrivals = Arrivals(())
        self._tell: Callable[[Record], None] = _nobody
        self._records: list[Record] = []
        self._ran = False
        self._seats: int | None = None
        self._until_s = inf
        self._leaving: Mapping[int, int] = {}
        self._seated = 0
        self._standing: deque[tuple[int, Request]] = deque()
        self._open = 0  # asked and not over, or sure to ask once the one before has had its pause

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
    ) -> list[Record]:
        """What became of each that was asked, in the order of the workload; ``over`` is told as it happens.

        requests: a sequence; or an iterator of those of an open workload in the order of their times, however many.
        sample_s: how often to look at the pools, see ``samples``. seats: so many at a time, the others ask when one is
        free, in the order of their coming. until_s: nobody asks from then on, whoever waits for a seat included.
        leaving: by place, after how many tokens its client leaves.
        """
        assert not self._ran, "a simulation runs once"
        assert len(self.stores) == len(self.workers) or not any(isinstance(fault, Death) for fault in faults), (
            "a host that several workers share does not die"
        )
        self._ran, self._arrivals, self._tell = True, Arrivals(requests), over
        self._seats, self._until_s, self._leaving = seats, until_s, leaving or {}
        for worker in self.workers.values():
            self._report(worker)
        self._expect()
        if sample_s is not None:
            self._sample(sample_s)
        for fault in faults:
            self.events.at(fault.at_s, partial(self._goes_wrong, fault))
        with seldom_collected():
            self.events.run()
        assert not self._open, f"{self._open} requests hang"
        return sorted(self._records, key=lambda record: record.place)

    # -- requests -----------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Nobody is served, and nobody will ask."""
        return not self._goes_on

    @property
    def _goes_on(self) -> bool:
        return bool(self._open) or self._arrivals.next_s is not None

    def _expect(self) -> None:
        """Whoever comes next, comes before anything else of that moment."""
        at_s = self._arrivals.next_s
        if at_s is not None:
            self.events.at(at_s, self._comes, early=True)

    def _comes(self) -> None:
        place, request = self._arrivals.take()
        self._expect()
        self._open += 1
        self._sit(place, request)

    def _sit(self, place: int, request: Request) -> None:
        if self.events.now >= self._until_s:
            self._open -= 1 + len(self._standing)  # who stands is too late as well
            self._standing.clear()
        elif self._seats is not None and self._seated >= self._seats:
            self._standing.append((place, request))
        else:
            self._seated += 1
            self._ask(place, request)

    def _ask(self, place: int, request: Request) -> None:
        now = self.events.now
        if now - self._ticked_s >= REPORT_S:
            self._ticked_s = now
            self._conductor.tick(now=now)
        Story(request, place, self._cluster, self._over, wanted=self._leaving.get(place)).begin()

    def _over(self, record: Record) -> None:
        """Who follows one that was rejected or left never asks: nobody is there to."""
        self._records.append(record)
        self._tell(record)
        self._open -= 1
        self._seated -= 1
        if self._standing:
            self.events.after(0.0, partial(self._sit, *self._standing.popleft()))
        if record.ended_s is not None:
            for place, request in self._arrivals.followers(record.place):
                self._open += 1
                self.events.after(request.at_s, partial(self._sit, place, request))

    # -- reports ------------------------------------------------------------------------------------------------

    def _report(self, worker: Worker) -> None:
        now, store = self.events.now, worker.store
        if not worker.dead:
            heard = now >= self._silent_s.get(worker.name, 0.0)  # else both reports are lost on the way
            if self._tells[store.name] == worker.name:
                self._report_store(store, heard=heard)
            of_worker = worker.report()
            if heard:
                self._conductor.worker_reported(of_worker, now=now)
        if self._goes_on:
            self.events.at(self._next_beat(worker), partial(self._report, worker))

    def _report_store(self, store: Store, *, heard: bool) -> None:
        report = store.report(snapshot=store.name in self._lacking)
        if heard:
            lacking = self._conductor.store_reported(report, now=self.events.now)
            for copy in self._conductor.copies(store.name):
                store.copy(copy)
            (self._lacking.add if lacking else self._lacking.discard)(store.name)

    def _sample(self, every_s: float) -> None:
        queued_s = [worker.queued_s for worker in self.workers.values() if worker.role.prefills]
        step_s = [worker.step_s for worker in self.workers.values() if worker.role.decodes]
        self.samples.append(Sample(self.events.now, _mean(queued_s), _mean(step_s)))
        if self._goes_on:
            self.events.after(every_s, partial(self._sample, every_s))

    # -- what goes wrong ----------------------------------------------------------------------------------------

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
                self._silent_s[worker.name] = max(fault.until_s, self._silent_s.get(worker.name, 0.0))
            case _:
                assert_never(fault)

    def _next_beat(self, worker: Worker) -> float:
        """The last before somebody asks again, as far as that is known."""
        now, beat, report_s = self.events.now, self._beats[worker.name], self._report_s
        until, next_s = now + SILENCE_S, self._arrivals.next_s
        if self._arrivals.closed or self._seats is not None:
            until = now  # somebody may ask as soon as another one has ended
        elif next_s is not None:
            until = min(until, next_s)
        last = floor((until - beat) / report_s)
        following = floor((now - beat) / report_s + 1e-9) + 1
        return beat + report_s * max(last, following)

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
