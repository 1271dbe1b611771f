"""What two stores say to each other, as values; ``kvstore.framing`` turns them into bytes and back.

A connection carries blocks one way. On a *push* lane the store that opened it sends blocks, on a *fetch* lane
it receives them. Each call has a number, given by whoever opened the connection, and its blocks are called
by their position among the names of the call.

    push:   OFFER -> GRANTED, then (SLICES .. DONE -> SEALED) or GIVEN_UP as blocks come, RELEASE
    fetch:  WANT, then (SLICES .. DONE -> SEALED) as blocks come, END; or RELEASE, for what is not wanted any more
"""

from dataclasses import dataclass
from enum import IntEnum

from kvstore.layout import Identity, KvLayout
from kvstore.names import BlockName

SHARING = 65_535
"""More connections than that are told as so many."""

NAMES = 16_000
"""Names in one call: a million tokens in blocks of 64."""


class Kind(IntEnum):
    """What a frame says."""

    HELLO = 1
    WELCOME = 2
    DECLINED = 3
    OFFER = 4
    GRANTED = 5
    SLICES = 6
    DONE = 7
    SEALED = 8
    GIVEN_UP = 9
    RELEASE = 10
    WANT = 11
    END = 12


class Lane(IntEnum):
    """Which way blocks go on a connection, as seen by whoever opened it."""

    PUSH = 1
    FETCH = 2


class Grant(IntEnum):
    """What becomes of an offered block. ON_ITS_WAY: somebody else is writing it there, so it is not to be sent."""

    HELD = 1
    RESERVED = 2
    ON_ITS_WAY = 3
    REFUSED = 4


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of whoever opens a connection: who it is, and what it can exchange blocks of."""

    lane: Lane
    store: str
    incarnation: int
    identity: Identity
    layout: KvLayout


@dataclass(frozen=True, slots=True)
class Welcome:
    """Hello's answer."""

    store: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Declined:
    """Hello's other answer. The connection ends."""

    reason: str


@dataclass(frozen=True, slots=True)
class Offer:
    """Blocks that can be pushed: of one prefix, in order. A block is called by its position here from now on."""

    call: int
    names: tuple[BlockName, ...]
    last_is_short: bool


@dataclass(frozen=True, slots=True)
class Granted:
    """One answer per name of the offer. What is reserved may be sent."""

    call: int
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class Slices:
    """Layers ``first_layer`` and so on of these blocks. Their bytes follow, block after block: ``bulk_bytes``.

    sharing: on how many connections the sender sends slices just now, this one included.
    """

    call: int
    positions: tuple[int, ...]
    first_layer: int
    layers: int
    bulk_bytes: int
    sharing: int = 1


@dataclass(frozen=True, slots=True)
class Done:
    """All layers of these blocks have been sent; so are their checksums."""

    call: int
    positions: tuple[int, ...]
    checksums: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sealed:
    """Done's answer: whether each block was intact and is held now."""

    call: int
    positions: tuple[int, ...]
    sealed: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class GivenUp:
    """These blocks will not be sent after all."""

    call: int
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """The call is over for whoever opened it: what is held for it is let go, what is under way is not wanted."""

    call: int


@dataclass(frozen=True, slots=True)
class Want:
    """Blocks that are fetched: of one prefix, in order. deadline_s: time that is left."""

    call: int
    names: tuple[BlockName, ...]
    deadline_s: float


@dataclass(frozen=True, slots=True)
class End:
    """The call is over for whoever was called; ``reason`` says why no more is sent, empty where all was."""

    call: int
    reason: str


Frame = Hello | Welcome | Declined | Offer | Granted | Slices | Done | Sealed | GivenUp | Release | Want | End
