"""The nouns of the store: what a session asks, what it is granted and told, what the shell is to move.

Values only. A reference to a slot carries the slot's generation, so one that outlived
its block is told apart. Grants and leases are references, and can be given back as such.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from kvstore.names import BlockName

SessionId = NewType("SessionId", str)
"""One connection of one worker, or one errand of the store's own; never used again for another."""


class Tier(StrEnum):
    """Where a block can be."""

    DRAM = "dram"
    SSD = "ssd"
    PEER = "peer"
    """In another store."""


class Admit(StrEnum):
    """What is written behind to the SSD."""

    ALL = "all"
    """Every full block that is sealed."""
    TWICE = "twice"
    """Those looked up after they were sealed, or sealed again after having been lost: spares the disk what is
    never asked for again."""


class IdentityMismatch(Exception):
    """A worker of another model, dtype, layout or protocol; the message says in a sentence what differs."""


# References are made by the hundred in a call, and freezing one costs three times what making it does: 0.4 us, not 0.1.
# Nobody changes one.
@dataclass(slots=True, unsafe_hash=True)
class SlotRef:
    """A slot as it was when the reference was given out."""

    slot: int
    generation: int

    @property
    def ref(self) -> "SlotRef":
        """The bare reference."""
        return SlotRef(self.slot, self.generation)


@dataclass(slots=True, unsafe_hash=True)
class Write(SlotRef):
    """Yours to write, then to seal or to discard."""


@dataclass(slots=True, unsafe_hash=True)
class Held(SlotRef):
    """Sealed already; leased to you once more if you asked to hold, else only there at this moment."""


@dataclass(frozen=True, slots=True)
class Writing:
    """A live session (perhaps yours, for another request) is writing it. Nothing is held for you: acquire waits."""


@dataclass(frozen=True, slots=True)
class Refused:
    """No room: every slot is leased or half-written."""


Allocation = Write | Held | Writing | Refused


@dataclass(slots=True, unsafe_hash=True)
class Lease(SlotRef):
    """The right to read a slot until it is released or its session ends.

    checksum: of the block, as it was sealed. found: where it was when it was looked up.
    """

    checksum: int
    found: Tier = field(default=Tier.DRAM, compare=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """Part of what an acquire gets: leases on the next names in prefix order. After ``done`` nothing follows."""

    session: SessionId
    call: int
    leases: tuple[Lease, ...]
    done: bool


@dataclass(frozen=True, slots=True)
class Peer:
    """Another store, and where its transfers listen (host:port)."""

    store: str
    address: str


@dataclass(frozen=True, slots=True)
class Demote:
    """Write the block in ``source`` (DRAM, not evicted meanwhile) to ``target`` (SSD). tokens: in the block."""

    name: BlockName
    source: SlotRef
    target: SlotRef
    checksum: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Promote:
    """Read the block in ``source`` (SSD) into ``target`` (DRAM, being written), and verify that it is intact."""

    name: BlockName
    source: SlotRef
    target: SlotRef
    checksum: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask ``peer`` for these blocks, of one prefix and in its order; seal each in its target as ``session``.

    deadline: when whoever waits for them gives up, the caller's monotonic seconds.
    """

    session: SessionId
    peer: Peer
    names: tuple[BlockName, ...]
    targets: tuple[SlotRef, ...]
    deadline: float


@dataclass(slots=True, unsafe_hash=True)  # by the hundred, like references
class Drop:
    """Forget a block in DRAM, so that there is room before it is needed; called off where it is leased by then."""

    name: BlockName
    source: SlotRef


Move = Demote | Promote | Fetch | Drop
"""What the shell is to carry out, and to tell the end of, whatever it is."""


@dataclass(frozen=True, slots=True)
class DiskEntry:
    """One block on the SSD, as a scan of the file finds it and as an index snapshot lists it."""

    slot: int
    name: BlockName
    checksum: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Names held now and not when last asked, and the other way round: in DRAM, and on the SSD."""

    gained: tuple[BlockName, ...]
    lost: tuple[BlockName, ...]
    ssd_gained: tuple[BlockName, ...] = ()
    ssd_lost: tuple[BlockName, ...] = ()


@dataclass(frozen=True, slots=True)
class Hits:
    """Names of lookups (hand-overs are none), and where those that were leased had been found. Counted for ever."""

    asked: int = 0
    dram: int = 0
    ssd: int = 0
    peer: int = 0


@dataclass(frozen=True, slots=True)
class OwnerCounts:
    """What one worker's sessions, or an errand of the store's own, hold at this moment."""

    owner: str
    leases: int
    writing: int
    set_aside: bool


@dataclass(frozen=True, slots=True)
class DiskSnapshot:
    """Counts of the SSD's slots, and of what is to be written behind.

    held: blocks that can be read back. writing: being written behind at this moment. pending:
    sealed in DRAM and to be written behind, not yet on the SSD, those being written included.
    oldest_pending: since when the oldest of them is (the caller's monotonic seconds).
    evicted: to make room on the SSD. dropped_torn: found not to be intact when they were read.
    lost_pending: evicted from DRAM before they were written.
    """

    total: int
    free: int
    held: int
    writing: int
    pending: int
    oldest_pending: float | None
    evicted: int
    dropped_torn: int
    lost_pending: int


@dataclass(frozen=True, slots=True)
class SlotCounts:
    """Of one arena: ``free + writing + sealed == total``. leases: as in ``CatalogSnapshot``."""

    total: int
    free: int
    writing: int
    sealed: int
    leases: int


@dataclass(frozen=True, slots=True)
class CatalogSnapshot:
    """Counts of slots, and who is connected.

    leases: of workers and peers; what the store itself pins while it copies is none.
    evictable: sealed slots that nobody leases. evicted: blocks evicted so far. waiting:
    acquires that wait. oldest_write: when the oldest grant that is still being written
    was given (the caller's monotonic seconds). sessions: worker ids of live sessions;
    set_aside: of those whose connection broke while the worker may still live. owners:
    everybody who holds anything. disk: None while there is no SSD tier.
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
    owners: tuple[OwnerCounts, ...] = ()
    hits: Hits = Hits()
    disk: DiskSnapshot | None = None
