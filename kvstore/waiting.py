"""Acquires that wait for a block which somebody is writing.

Each waits for exactly one name, the next of its prefix. A few hundred at most (one for
each request that is being handed over), so deadlines are found by looking at all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kvstore.names import BlockName
from kvstore.vocabulary import Peer, SessionId, Tier


@dataclass(slots=True, eq=False)
class Acquire:
    """A call that was not answered whole yet.

        [0, position)        leased
        [position, planned)  in DRAM, or on its way there
        [planned, ..)        not looked at yet, or nowhere when it was

    handoff: waits for what workers are writing, too. source: a store that may have what this one
    lacks of the first ``fetchable`` names. found: where a name was found, by its position, if not in DRAM.
    """

    session: SessionId
    call: int
    names: Sequence[BlockName]
    deadline: float
    handoff: bool
    source: Peer | None
    fetchable: int
    position: int = 0
    planned: int = 0
    found: dict[int, Tier] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.position == len(self.names)

    @property
    def next_name(self) -> BlockName:
        return self.names[self.position]


class Waiting:
    """All acquires that wait, by the name each waits for; first come, first woken."""

    def __init__(self) -> None:
        self._by_name: dict[BlockName, list[Acquire]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_name.values()))

    def add(self, acquire: Acquire) -> None:
        self._by_name.setdefault(acquire.next_name, []).append(acquire)

    def wake(self, name: BlockName) -> list[Acquire]:
        """Take out everyone who waits for ``name``."""
        return self._by_name.pop(name, [])

    def expire(self, *, now: float) -> list[Acquire]:
        """Take out everyone whose deadline has come."""
        expired = [acquire for acquire in self.all() if acquire.deadline <= now]
        for acquire in expired:
            self._remove(acquire)
        return expired

    def forget(self, session: SessionId) -> None:
        """Take out what this session waits for; there is nobody left to answer."""
        for acquire in self.all():
            if acquire.session == session:
                self._remove(acquire)

    @property
    def next_deadline(self) -> float | None:
        return min((acquire.deadline for acquire in self.all()), default=None)

    def all(self) -> list[Acquire]:
        return [acquire for waiting in self._by_name.values() for acquire in waiting]

    def _remove(self, acquire: Acquire) -> None:
        others = self._by_name[acquire.next_name]
        others.remove(acquire)
        if not others:
            del self._by_name[acquire.next_name]
