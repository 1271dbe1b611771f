"""Which sealed blocks are to be written to the SSD, in the order in which they are.

First come, first written, so that a prefix is on the disk from its head on. Knows names and
times only; a block is taken out when its write begins, or when it is lost before.
"""

from collections import OrderedDict

from kvstore.names import BlockName
from kvstore.vocabulary import Admit

REMEMBERED = 1 << 20
"""Names that were sealed before, for ``Admit.TWICE``: about 150 MB at most."""


class WriteBehind:
    """``remembered``: how many names ``Admit.TWICE`` knows again; the one seen longest ago is forgotten first."""

    def __init__(self, admit: Admit, *, remembered: int = REMEMBERED) -> None:
        self._admit = admit
        self._remembered = remembered
        self._seen: OrderedDict[BlockName, None] = OrderedDict()
        self._queue: OrderedDict[BlockName, float] = OrderedDict()  # since when

    def __len__(self) -> int:
        return len(self._queue)

    def names(self) -> list[BlockName]:
        return list(self._queue)

    @property
    def wants_lookups(self) -> bool:
        """Whether ``looked_up`` is of any use."""
        return self._admit is Admit.TWICE

    @property
    def oldest(self) -> float | None:
        """Since when the next one has been waiting."""
        return next(iter(self._queue.values()), None)

    def sealed(self, name: BlockName, *, now: float) -> None:
        """It is in DRAM and not on the disk; fine if that is known already."""
        if name in self._queue:
            return
        if self._admit is Admit.ALL or name in self._seen:
            self.add(name, now=now)
        else:
            self._seen[name] = None
            if len(self._seen) > self._remembered:
                self._seen.popitem(last=False)

    def looked_up(self, name: BlockName, *, now: float) -> None:
        """Somebody has asked for a block that is in DRAM and not on the disk."""
        if self._admit is Admit.TWICE and name not in self._queue:
            self.add(name, now=now)

    def add(self, name: BlockName, *, now: float) -> None:
        self._queue[name] = now
        self._seen.pop(name, None)

    def take(self) -> tuple[BlockName, float] | None:
        """The next one, and since when it has been waiting."""
        return self._queue.popitem(last=False) if self._queue else None

    def put_back(self, name: BlockName, since: float) -> None:
        """It can't be written yet after all, and is the next one still."""
        self._queue[name] = since
        self._queue.move_to_end(name, last=False)

    def lose(self, name: BlockName) -> bool:
        """It is in DRAM no longer; whether it was still to be written."""
        return self._queue.pop(name, None) is not None

    def clear(self) -> None:
        """There is no disk any more."""
        self._queue.clear()
