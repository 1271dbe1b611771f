"""Slots that the store grants for blocks which this worker computes, until they are sealed or given up.

    asked -> granted -> claimed by a job -> sealed -> held (where ``hold`` was asked) -> released
                  \\-> discarded with the reservation, if nobody wrote it

A handoff is a reservation with ``hold``, open for as long as its Prefill call; a
publication is one without, open until its blocks are sealed.
"""

from collections.abc import Sequence

from kvstore.names import BlockName
from kvstore.vocabulary import Allocation, Held, SlotRef, Write
from services.worker.lent import Lent
from services.worker.store_session import StoreSession


class Reservation(Lent):
    """names: of one prefix, in order. after: the name before the first, which ties them to their prefix in eviction."""

    def __init__(
        self,
        session: StoreSession,
        names: Sequence[BlockName],
        *,
        after: BlockName | None = None,
        last_is_short: bool = False,
        hold: bool = False,
    ) -> None:
        super().__init__(session)
        self.names = tuple(names)
        self._after = after
        self._last_is_short = last_is_short
        self._hold = hold
        self._granted: dict[BlockName, SlotRef] = {}
        self._claimed: dict[BlockName, SlotRef] = {}
        self._held: dict[BlockName, SlotRef] = {}

    async def ask(self) -> None:
        """Returns once the store has answered. Raises StoreAway."""
        front = () if self._after is None else (self._after,)
        await self.session.allocate(
            (*front, *self.names), last_is_short=self._last_is_short, hold=self._hold, granted=self._answered
        )

    @property
    def unwritten(self) -> list[BlockName]:
        """Granted and not claimed yet, in prefix order."""
        return [name for name in self.names if name in self._granted]

    def claim(self, name: BlockName) -> SlotRef | None:
        """The slot that the caller will write now; None where there is none to write."""
        if self._closed or name not in self._granted:
            return None
        self._claimed[name] = self._granted.pop(name)
        return self._claimed[name]

    def seal(self, written: Sequence[tuple[BlockName, int]]) -> None:
        """These claimed blocks are complete, with these checksums."""
        refs = [self._claimed.pop(name) for name, _ in written]
        self.session.seal(refs, [checksum for _, checksum in written])
        if self._hold:
            self._held.update(zip((name for name, _ in written), refs, strict=True))

    def _answered(self, grants: Sequence[Allocation]) -> None:
        if self._after is not None:
            first, *grants = grants
            if isinstance(first, Write):  # only asked to say what the others follow
                self.session.discard([first])
        for name, grant in zip(self.names, grants, strict=True):
            if isinstance(grant, Write):
                self._granted[name] = grant
            elif isinstance(grant, Held) and self._hold:
                self._held[name] = grant
        self._settle()

    def _give_back(self) -> None:
        self.session.discard([*self._granted.values(), *self._claimed.values()])
        # In prefix order, so that the store counts the leaf as used first and the root last.
        self.session.release([self._held[name] for name in self.names if name in self._held])
        for each in (self._granted, self._claimed, self._held):
            each.clear()
