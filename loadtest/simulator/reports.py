"""What hosts tell the conductor of themselves, each on its own beat, as live processes do.

Reports that nobody would read before the next are not composed, since the conductor believes only the latest.
"""

from functools import partial
from math import floor
from typing import TYPE_CHECKING

from loadtest.simulator.crowd import Crowd
from loadtest.simulator.events import Events
from loadtest.simulator.spec import SILENCE_S
from loadtest.simulator.store import Store
from loadtest.simulator.worker import Worker
from scheduler.conductor import Conductor
from scheduler.vocabulary import StoreId, WorkerId

if TYPE_CHECKING:
    from random import Random


class Reports:
    """every_s: how often each host reports. chance: for their beats."""

    def __init__(
        self,
        workers: dict[WorkerId, Worker],
        conductor: Conductor,
        events: Events,
        *,
        every_s: float,
        chance: "Random",
    ) -> None:
        self._workers, self._conductor, self._events, self._every_s = workers, conductor, events, every_s
        self._beats = {name: every_s * chance.random() for name in workers}
        self._tells = {worker.store.name: name for name, worker in reversed(workers.items())}
        """Of each store, the worker with whose reports its own go."""
        self._lacking: set[StoreId] = set()  # stores of which the conductor wants all names
        self._silent_s: dict[WorkerId, float] = {}

    def begin(self, crowd: Crowd) -> None:
        """All report now, and from then on for as long as the crowd goes on."""
        for worker in self._workers.values():
            self._report(worker, crowd)

    def silence(self, worker: WorkerId, *, until_s: float) -> None:
        """Its host's reports are lost on the way until then."""
        self._silent_s[worker] = max(until_s, self._silent_s.get(worker, 0.0))

    def _report(self, worker: Worker, crowd: Crowd) -> None:
        now, store = self._events.now, worker.store
        if not worker.dead:
            heard = now >= self._silent_s.get(worker.name, 0.0)
            if self._tells[store.name] == worker.name:
                self._report_store(store, heard=heard)
            of_worker = worker.report()
            if heard:
                self._conductor.worker_reported(of_worker, now=now)
        if crowd.goes_on:
            self._events.at(self._next_beat(worker, crowd), partial(self._report, worker, crowd))

    def _report_store(self, store: Store, *, heard: bool) -> None:
        report = store.report(snapshot=store.name in self._lacking)
        if heard:
            lacking = self._conductor.store_reported(report, now=self._events.now)
            for copy in self._conductor.copies(store.name):
                store.copy(copy)
            (self._lacking.add if lacking else self._lacking.discard)(store.name)

    def _next_beat(self, worker: Worker, crowd: Crowd) -> float:
        """The last before somebody asks again, as far as that is known."""
        now, beat, every_s = self._events.now, self._beats[worker.name], self._every_s
        last = floor((crowd.next_s(latest_s=now + SILENCE_S) - beat) / every_s)
        following = floor((now - beat) / every_s + 1e-9) + 1
        return beat + every_s * max(last, following)
