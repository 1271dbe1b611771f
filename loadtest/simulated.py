"""A run against the simulator: the same workload, records and pools as of a live one, in virtual time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from loadtest.client.answer import LEFT_MIDWAY
from loadtest.client.pools import samples
from loadtest.live import Listener
from loadtest.offered import leaving
from loadtest.record import Chunk, Outcome, PoolSample, Record
from loadtest.request import Request
from loadtest.settings import Offer, Simulated
from loadtest.simulate import cluster
from loadtest.simulator import record as simulator
from loadtest.simulator.simulation import Simulation
from scheduler.vocabulary import RejectionCode

LOOK_S = 1.0
"""Of virtual time between two looks at the pools."""

CAUSES = {
    RejectionCode.UNAVAILABLE: "service_unavailable",
    RejectionCode.OVERLOADED: "rate_limit_exceeded",
    RejectionCode.UNATTAINABLE: "slo_unattainable",
}
"""The words that a gateway has for a conductor's rejections."""


class SimulatedError(ValueError):
    """The simulator can't do what is asked; the sentence says what."""


@dataclass(slots=True)
class Seen:
    """As of a live run."""

    block_tokens: int
    records: list[Record] = field(default_factory=list)
    samples: list[PoolSample] = field(default_factory=list)


def simulated(target: Simulated, offer: Offer, requests: Sequence[Request], listener: Listener) -> Seen:
    """Raises SimulatedError."""
    try:
        simulation = cluster(target.flags, seed=offer.seed)
    except ValueError as error:
        raise SimulatedError(str(error)) from error
    run = _Run(simulation, requests, listener)
    until_s = inf if offer.duration_s is None else offer.duration_s
    left = leaving(offer, requests)
    simulation.run(requests, over=run.over, seats=offer.max_concurrency, until_s=until_s, leaving=left)
    simulation.check()
    return run.seen


class _Run:
    """Turns what the simulator tells into what a live run tells."""

    def __init__(self, simulation: Simulation, requests: Sequence[Request], listener: Listener) -> None:
        self.seen = Seen(simulation.block_tokens)
        self._simulation, self._requests, self._listener = simulation, requests, listener
        self._over_s: dict[int, float] = {}
        """By place: when those were over that others follow."""

        simulation.events.at(0.0, self._look)

    def over(self, record: simulator.Record) -> None:
        now, request = self._simulation.events.now, self._requests[record.place]
        due_s = request.at_s + (0.0 if request.after is None else self._over_s[request.after])
        self._over_s[record.place] = now
        found = translated(record, now=now, queued_s=max(0.0, record.asked_s - due_s))
        self.seen.records.append(found)
        self._listener.record(found)

    def _look(self) -> None:
        """As a gateway's status would show them."""
        now = self._simulation.events.now
        workers = [
            {
                "role": worker.role.value,
                "running": state.running,
                "waiting": state.waiting,
                "prefill_tokens_queued": state.prefill_tokens_queued,
                "device_blocks_free": state.device_blocks_free,
                "device_blocks_total": state.device_blocks_total,
            }
            for worker in self._simulation.workers.values()
            for state in (worker.report(),)
        ]
        for sample in samples({"workers": workers}, at_s=now):
            self.seen.samples.append(sample)
            self._listener.pool(sample)
        if not self._simulation.idle:
            self._simulation.events.after(LOOK_S, self._look)


def translated(record: simulator.Record, *, now: float, queued_s: float = 0.0) -> Record:
    """now: when it was over. queued_s: how long it stood before there was a seat.

    A rejection after its prefill keeps its first token, as a broken stream would.
    """
    finished = record.ended_s is not None
    late = not finished and record.ttft_s is not None
    outcome = Outcome.FINISHED if finished else Outcome.FAILED if late else Outcome.REFUSED
    cause = CAUSES[RejectionCode(record.rejected_as)] if record.rejected_as else ""
    if record.left:
        outcome, cause = Outcome.CANCELLED, LEFT_MIDWAY
    return Record(
        place=record.place,
        planned_s=record.asked_s,
        sent_s=record.asked_s,
        input_tokens=record.input_tokens,
        max_tokens=record.output_tokens,
        outcome=outcome,
        ended_s=now,
        chunks=tuple(Chunk(at_s, 1) for at_s in record.times_s),
        cause=cause,
        detail=record.rejected or "",
        finish_reason="length" if finished else None,
        prompt_tokens=record.input_tokens if record.ttft_s is not None else None,
        completion_tokens=len(record.times_s) if finished or record.left else None,
        cached_tokens=record.cached_tokens if record.ttft_s is not None else None,
        predicted_ttft_s=record.predicted_ttft_s,
        prefill=record.prefill,
        decode=record.decode,
        queued_s=queued_s,
    )
