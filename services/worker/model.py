"""What the model thread does: one step, with its lifts before and its lowers in between.

Every slot comes with the epoch of the session that granted it, and is touched only while
that session's arena is mapped. A lift that can't be trusted stops the step before
anything is computed; a block that can't be lowered is merely not kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from engine.port import Engine
from scheduler.batch import Batch, Copy, Lift
from scheduler.vocabulary import RequestId
from services.worker.arena_map import ArenaMap


@dataclass(frozen=True, slots=True)
class Lowering:
    """A device block to copy to a slot that was granted in this epoch."""

    copy: Copy
    epoch: int


@dataclass(frozen=True, slots=True)
class Leased:
    """The slots that a request may lift from, with the checksum of what must lie there."""

    epoch: int
    checksums: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class StepDone:
    """tokens: one entry per slice. checksums: one per lowering; None where its arena is gone."""

    tokens: tuple[int | None, ...]
    checksums: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class LiftsLost:
    """The step was not run: what these requests were to lift can't be trusted."""

    requests: frozenset[RequestId]


class Model:
    """An engine and the arena that it copies to and from. Every method belongs to the model thread."""

    def __init__(self, engine: Engine, *, verify_lifts: bool = False) -> None:
        self._engine = engine
        self._verify_lifts = verify_lifts
        self.arena = ArenaMap(engine)

    def step(
        self, batch: Batch, leased: Mapping[RequestId, Leased], lowerings: Sequence[Lowering]
    ) -> StepDone | LiftsLost:
        """Lift, compute, and lower what is complete, layer by layer as layers appear."""
        lost = self._lift(batch.lifts, leased)
        if lost:
            return LiftsLost(lost)
        copies = [lowering.copy for lowering in lowerings if lowering.epoch == self.arena.epoch]
        result = self._engine.run(batch, partial(self._engine.lower, copies) if copies else None)
        return StepDone(result.tokens, self._checksums(lowerings))

    def lower(self, lowerings: Sequence[Lowering]) -> tuple[int | None, ...]:
        """Whole blocks that are complete; a checksum for each, None where its arena is gone."""
        copies = [lowering.copy for lowering in lowerings if lowering.epoch == self.arena.epoch]
        if copies:
            self._engine.lower(copies)
        return self._checksums(lowerings)

    def _lift(self, lifts: Sequence[Lift], leased: Mapping[RequestId, Leased]) -> frozenset[RequestId]:
        """Copy into the device; the requests whose lifts are no good, and then nothing may be computed."""
        lost = {lift.request for lift in lifts if not self._is_leased(lift, leased.get(lift.request))}
        if not lost and lifts:
            self._engine.lift([lift.copy for lift in lifts])
            if self._verify_lifts:
                # Of what lies in the slot after the copy: had it changed meanwhile, it would show.
                lost = {
                    lift.request
                    for lift in lifts
                    if self.arena.checksum(lift.copy.slot) != leased[lift.request].checksums[lift.copy.slot]
                }
        return frozenset(lost)

    def _is_leased(self, lift: Lift, leased: Leased | None) -> bool:
        return leased is not None and leased.epoch == self.arena.epoch and lift.copy.slot in leased.checksums

    def _checksums(self, lowerings: Sequence[Lowering]) -> tuple[int | None, ...]:
        return tuple(
            self.arena.checksum(lowering.copy.slot) if lowering.epoch == self.arena.epoch else None
            for lowering in lowerings
        )
