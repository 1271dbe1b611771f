"""All whom one worker serves, and what its steps are to them: blocks that fill, tokens that come."""

from array import array
from collections.abc import Iterable, Sequence

from kvstore.names import BlockName
from kvstore.vocabulary import SessionId
from loadtest.simulator.coasting import CoastingBatcher
from loadtest.simulator.part import Part
from loadtest.simulator.store import Store
from scheduler.batch import Batch
from scheduler.vocabulary import RequestId


class Parts:
    """ends: when each of the worker's steps ended, kept here. private: nothing is published.

    A batch may have slices of parts that have left since it began.
    """

    def __init__(
        self, batcher: CoastingBatcher, store: Store, session: SessionId, ends: "array[float]", *, private: bool
    ) -> None:
        self._batcher, self._store, self._session, self._ends = batcher, store, session, ends
        self._private = private
        self._parts: dict[RequestId, Part] = {}
        self.telling = False
        """A step's tokens are being given out: whoever gets them may come and go meanwhile."""

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, request: RequestId) -> Part:
        return self._parts[request]

    def add(self, part: Part) -> None:
        self._parts[part.request] = part

    def remove(self, part: Part) -> None:
        part.left = True
        del self._parts[part.request]

    def clear(self) -> list[Part]:
        """All have left; who they were."""
        parts = list(self._parts.values())
        for part in parts:
            self.remove(part)
        return parts

    # -- a step -------------------------------------------------------------------------------------------------

    def until_enough(self, batch: Batch) -> int:
        """Steps until somebody has all the tokens that are wanted; who has them already is leaving."""
        parts = [self._parts[piece.request] for piece in batch.slices]
        return max(1, min((part.wanted - part.tokens for part in parts if part.wanted is not None), default=1 << 30))

    def began(self, batch: Batch) -> None:
        """What it fills may flow."""
        for part, names in self._filled(batch):
            if part.handoff is not None:
                part.handoff.filling(names)

    def applied(self, batch: Batch, *, end_s: float) -> None:
        """Seal what the step has filled before anybody may take its blocks; then give out its tokens."""
        step = len(self._ends)
        self._ends.append(end_s)
        for part, names in self._filled(batch):
            if part.handoff is not None:
                part.handoff.filled(names)
            elif not self._private:
                place = part.running.names.index(names[0])
                self._store.publish(self._session, part.running.names[place - 1] if place else None, names)
        parts = [self._parts.get(piece.request) for piece in batch.slices]
        tokens = [
            None if piece.sampling is None else 0 if part is None else part.token
            for piece, part in zip(batch.slices, parts, strict=True)
        ]
        self.telling = True
        for progress in self._batcher.applied(batch, tokens, now=end_s):
            part = self._parts[progress.request]
            part.got(step, 1)
            if progress.first is not None:
                part.first(progress.first)
            if part.wanted is not None and part.wanted == part.tokens:
                part.enough()
            if progress.finish is not None:
                part.ended()
        self.telling = False

    def coasted(self, batch: Batch, ends: Sequence[float]) -> None:
        """So many steps like this batch have ended, in which nothing but tokens came."""
        step = len(self._ends)
        self._ends.extend(ends)
        self._batcher.coast(len(ends))
        for piece in batch.slices:
            self._parts[piece.request].got(step, len(ends))

    def _filled(self, batch: Batch) -> Iterable[tuple[Part, list[BlockName]]]:
        """What the batch fills, by whom."""
        if not batch.fills:
            return ()
        filled: dict[RequestId, list[BlockName]] = {}
        for fill in batch.fills:
            if fill.request in self._parts:
                filled.setdefault(fill.request, []).append(fill.name)
        return [(self._parts[request], names) for request, names in filled.items()]
