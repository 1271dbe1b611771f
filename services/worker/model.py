"""What the model thread does: steps, with lowers in between their layers, and copies between them.

Every slot comes with the epoch of the session that granted it, and is touched only while
that session's arena is mapped. A block that can't be lifted has to be computed; one that
can't be lowered is merely not kept.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from engine.port import Engine, OnLayer
from kvstore.vocabulary import Lease
from scheduler.batch import Batch, Copy
from services.worker.arena_map import ArenaMap


@dataclass(frozen=True, slots=True)
class Lowering:
    """A device block to copy to a slot that was granted in this epoch."""

    copy: Copy
    epoch: int


@dataclass(frozen=True, slots=True)
class StepDone:
    """tokens: one entry per slice. checksums: one per lowering; None where its arena is gone. seconds: computing."""

    tokens: tuple[int | None, ...]
    checksums: tuple[int | None, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Lifted:
    """good: so many of the first blocks are what they should be. seconds: copying them all, and verifying."""

    good: int
    seconds: float


class Model:
    """An engine and the arena that it copies to and from. Every method belongs to the model thread."""

    def __init__(self, engine: Engine, *, verify_lifts: bool = False) -> None:
        self._engine = engine
        self._verify_lifts = verify_lifts
        self.arena = ArenaMap(engine)

    def step(self, batch: Batch, lowerings: Sequence[Lowering], lowered: OnLayer | None = None) -> StepDone:
        """Compute, and lower what is complete, layer by layer as layers appear; ``lowered`` is told each of them."""
        copies = [lowering.copy for lowering in lowerings if lowering.epoch == self.arena.epoch]

        def on_layer(layer: int) -> None:
            self._engine.lower_layer(copies, layer)
            if lowered is not None:
                lowered(layer)

        started = time.perf_counter()
        result = self._engine.run(batch, on_layer if copies else None)
        seconds = time.perf_counter() - started
        return StepDone(result.tokens, self._checksums(lowerings), seconds)

    def lift(self, leased: Sequence[Lease], blocks: Sequence[int], epoch: int) -> Lifted:
        """Copy slots that were leased in this epoch to device blocks."""
        if epoch != self.arena.epoch:
            return Lifted(0, 0.0)
        started = time.perf_counter()
        self._engine.lift([Copy(lease.slot, block) for lease, block in zip(leased, blocks, strict=True)])
        return Lifted(self._good(leased), time.perf_counter() - started)

    def _good(self, leased: Sequence[Lease]) -> int:
        if self._verify_lifts:
            # Of what lies in the slot after the copy: had it changed meanwhile, it would show.
            for count, lease in enumerate(leased):
                if self.arena.checksum(lease.slot) != lease.checksum:
                    return count
        return len(leased)

    def lower(self, lowerings: Sequence[Lowering]) -> tuple[int | None, ...]:
        """Whole blocks that are complete; a checksum for each, None where its arena is gone."""
        good = [lowering.epoch == self.arena.epoch for lowering in lowerings]
        copies = [lowering.copy for lowering, mapped in zip(lowerings, good, strict=True) if mapped]
        checksums = iter(self._engine.lower(copies) if copies else ())
        return tuple(next(checksums) if mapped else None for mapped in good)

    def _checksums(self, lowerings: Sequence[Lowering]) -> tuple[int | None, ...]:
        return tuple(
            self.arena.checksum(lowering.copy.slot) if lowering.epoch == self.arena.epoch else None
            for lowering in lowerings
        )
