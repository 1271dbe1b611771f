"""Every fact that a conductor was told, with its time, and what it answered: enough to decide it all again.

A ``Journal`` stands before a conductor and is used like it. ``replay`` tells a fresh conductor the same facts at
the same times; since the conductor owns no clock and no chance but its seed, it must answer the same, live or
simulated, on any machine. Whoever finds a difference has found a bug.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar, assert_never

from scheduler.conductor import Conductor
from scheduler.snapshot import ClusterSnapshot
from scheduler.vocabulary import (
    Ask,
    CopyOrder,
    Measured,
    Outcome,
    Placement,
    Rejection,
    RequestId,
    Resync,
    Role,
    StoreId,
    StoreReport,
    WorkerId,
    WorkerReport,
)


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a placement."""

    request: RequestId
    outcome: Outcome
    measured: Measured | None


@dataclass(frozen=True, slots=True)
class Begins:
    """A decode is about to begin."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Fact = WorkerReport | StoreReport | Ask | Told | Begins | Tick
Decision = Placement | Rejection | Resync | bool | None

T = TypeVar("T", bound=Placement | Rejection | Resync | bool | None)


@dataclass(frozen=True, slots=True)
class Entry:
    """decision: what was answered."""

    now: float
    fact: Fact
    decision: Decision


@dataclass(slots=True)
class Journal:
    """A conductor that writes down what it is told and what it answers; it grows without end."""

    conductor: Conductor
    entries: list[Entry] = field(default_factory=list)

    def worker_reported(self, report: WorkerReport, *, now: float) -> bool:
        return self._kept(report, self.conductor.worker_reported(report, now=now), now)

    def store_reported(self, report: StoreReport, *, now: float) -> Resync | None:
        return self._kept(report, self.conductor.store_reported(report, now=now), now)

    def place(self, ask: Ask, *, now: float) -> Placement | Rejection:
        return self._kept(ask, self.conductor.place(ask, now=now), now)

    def outcome(self, request: RequestId, outcome: Outcome, *, now: float, measured: Measured | None = None) -> None:
        self.conductor.outcome(request, outcome, now=now, measured=measured)
        self._kept(Told(request, outcome, measured), None, now)

    def decode_begins(self, request: RequestId, *, now: float) -> Rejection | None:
        return self._kept(Begins(request), self.conductor.decode_begins(request, now=now), now)

    def directive(self, worker: WorkerId, *, now: float) -> Role | None:
        """Not written down: it follows from reports and ticks, and changes nothing."""
        return self.conductor.directive(worker, now=now)

    def copies(self, store: StoreId) -> tuple[CopyOrder, ...]:
        """Not written down, as ``directive``."""
        return self.conductor.copies(store)

    def tick(self, *, now: float) -> None:
        self.conductor.tick(now=now)
        self._kept(Tick(), None, now)

    def snapshot(self) -> ClusterSnapshot:
        return self.conductor.snapshot()

    def _kept(self, fact: Fact, decision: T, now: float) -> T:
        self.entries.append(Entry(now, fact, decision))
        return decision


def replay(entries: Iterable[Entry], conductor: Conductor) -> Iterator[tuple[Entry, Decision]]:
    """Each entry, and what this conductor answers, which was told everything before it."""
    for entry in entries:
        yield entry, _decided(entry.fact, conductor, entry.now)


def _decided(fact: Fact, conductor: Conductor, now: float) -> Decision:
    match fact:
        case WorkerReport():
            return conductor.worker_reported(fact, now=now)
        case StoreReport():
            return conductor.store_reported(fact, now=now)
        case Ask():
            return conductor.place(fact, now=now)
        case Told():
            conductor.outcome(fact.request, fact.outcome, now=now, measured=fact.measured)
            return None
        case Begins():
            return conductor.decode_begins(fact.request, now=now)
        case Tick():
            conductor.tick(now=now)
            return None
        case _:
            assert_never(fact)
