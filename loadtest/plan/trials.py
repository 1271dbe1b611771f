"""Clusters that were tried, and what follows of them for others.

A simulation is given up as soon as more requests have missed their promise than may: a cluster that is far too
small is found out early, before its queues are long.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from loadtest.plan.goal import Goal, Verdict, verdict
from loadtest.request import Request
from loadtest.simulator.machine import Machine
from loadtest.simulator.record import Record
from loadtest.simulator.simulation import Simulation
from loadtest.simulator.spec import Spec
from scheduler.conductor import Conductor


class _TooManyMissed(Exception):
    """Ends a simulation from within."""


def _silent(verdict: Verdict) -> None:
    """Nobody wants to know."""


def _unseen(record: Record) -> None:
    """Nobody watches."""


@dataclass(slots=True)
class Trials:
    """workload: what every cluster is asked. tried: told of each verdict; over: of each request of a simulation."""

    workload: Sequence[Request]
    machine: Machine
    goal: Goal
    seed: int
    block_tokens: int = 512
    tried: Callable[[Verdict], None] = _silent
    over: Callable[[Record], None] = _unseen
    _made: dict[tuple[int, int, int], Verdict] = field(default_factory=dict)

    @property
    def simulations(self) -> int:
        return len(self._made)

    def keeps(self, prefill: int, decode: int, dram_bytes: int) -> bool:
        """Simulated, or inferred: more of anything is not worse."""
        for each in self._made.values():
            pairs = ((each.prefill, prefill), (each.decode, decode), (each.dram_bytes, dram_bytes))
            if self.kept(each) and all(had <= has for had, has in pairs):
                return True
            if not self.kept(each) and all(had >= has for had, has in pairs):
                return False
        return self.kept(self.verdict(prefill, decode, dram_bytes))

    def verdict(self, prefill: int, decode: int, dram_bytes: int) -> Verdict:
        """By simulation, once."""
        key = prefill, decode, dram_bytes
        if key not in self._made:
            self._made[key] = self._simulated(prefill, decode, dram_bytes)
            self.tried(self._made[key])
        return self._made[key]

    def kept(self, found: Verdict) -> bool:
        return not found.given_up and found.goodput >= self.goal.goodput

    def best(self, nodes: int) -> Verdict | None:
        """Which of at most so many nodes came closest."""
        small = [each for each in self._made.values() if each.nodes <= nodes]
        return max(small, key=lambda each: each.goodput, default=None)

    def _simulated(self, prefill: int, decode: int, dram_bytes: int) -> Verdict:
        spec = Spec(self.machine, prefill, decode, dram_bytes=dram_bytes, block_tokens=self.block_tokens)
        conductor = Conductor(
            seed=self.seed,
            link_bytes_per_s=self.machine.link_bytes_per_s,
            ssd_bytes_per_s=self.machine.ssd_bytes_per_s,
        )
        records: list[Record] = []
        may_miss = len(self.workload) * (1 - self.goal.goodput) + 1e-9
        missed = 0

        def over(record: Record) -> None:
            nonlocal missed
            records.append(record)
            missed += not record.within(self.goal.ttft_s, self.goal.tbt_s)
            self.over(record)
            if missed > may_miss:
                raise _TooManyMissed

        given_up = False
        try:
            Simulation(spec, conductor, chance=Random(self.seed)).run(self.workload, over=over)
        except _TooManyMissed:
            given_up = True
        return verdict(
            records,
            len(self.workload),
            self.goal,
            prefill=prefill,
            decode=decode,
            dram_bytes=dram_bytes,
            given_up=given_up,
        )
