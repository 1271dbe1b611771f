"""The nouns of the store: what a session asks, what it is granted and told.

Values only. A reference to a slot carries the slot's generation, so one that outlived
its block is told apart. Grants and leases are references, and can be given back as such.
"""

from dataclasses import dataclass
from typing import NewType

from kvstore.names import BlockName

SessionId = NewType("SessionId", str)
"""One connection of one worker; never used again for another."""


class IdentityMismatch(Exception):
    """A worker of another model, dtype, layout or protocol; the message says in a sentence what differs."""


@dataclass(frozen=True, slots=True)
class SlotRef:
    """A slot as it was when the reference was given out."""

    slot: int
    generation: int

    @property
    def ref(self) -> "SlotRef":
        """The bare reference."""
        return SlotRef(self.slot, self.generation)


@dataclass(frozen=True, slots=True)
class Write(SlotRef):
    """Yours to write, then to seal or to discard."""


@dataclass(frozen=True, slots=True)
class Held(SlotRef):
    """Sealed already; leased to you once more if you asked to hold, else only there at this moment."""


@dataclass(frozen=True, slots=True)
class Writing:
    """A live session (perhaps yours, for another request) is writing it. Nothing is held for you: acquire waits."""


@dataclass(frozen=True, slots=True)
class Refused:
    """No room: every slot is leased or half-written."""


Allocation = Write | Held | Writing | Refused


@dataclass(frozen=True, slots=True)
class Lease(SlotRef):
    """The right to read a slot until it is released or its session ends. checksum: of the block, as it was sealed."""

    checksum: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Part of what an acquire gets: leases on the next names in prefix order. After ``done`` nothing follows."""

    session: SessionId
    call: int
    leases: tuple[Lease, ...]
    done: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """Names held now and not when last asked, and the other way round."""

    gained: tuple[BlockName, ...]
    lost: tuple[BlockName, ...]


@dataclass(frozen=True, slots=True)
class CatalogSnapshot:
    """Counts of slots, and who is connected.

    evictable: sealed slots that nobody leases. evicted: blocks evicted so far. waiting:
    acquires that wait. oldest_write: when the oldest grant that is still being written
    was given (the caller's monotonic seconds). sessions: worker ids of live sessions;
    set_aside: of those whose connection broke while the worker may still live.
    """

    total: int
    free: int
    writing: int
    sealed: int
    leases: int
    evictable: int
    evicted: int
    waiting: int
    oldest_write: float | None
    sessions: tuple[str, ...]
    set_aside: tuple[str, ...]
