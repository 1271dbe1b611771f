"""Small worlds for the store's tests, built by plain functions."""

from collections.abc import Sequence

from kvstore.catalog import Catalog
from kvstore.layout import Identity, KvLayout
from kvstore.names import BlockName, child_name, root_name
from kvstore.vocabulary import Answer, Demote, DiskSnapshot, Drop, Fetch, Held, SessionId, SlotRef, Write

LAYOUT = KvLayout(block_tokens=4, layer_bytes=(3000, 3000, 1000), axes="bytes")
IDENTITY = Identity(model="toy", weights="w1", dtype="float32", block_tokens=4, layout=LAYOUT.digest)


def names(text: str) -> list[BlockName]:
    """One block per letter: ``names("ab")`` is the prefix of ``names("abc")``."""
    parent = root_name(IDENTITY.fingerprint)
    chain = []
    for letter in text:
        parent = child_name(parent, [ord(letter)] * LAYOUT.block_tokens)
        chain.append(parent)
    return chain


def catalog(slots: int = 8, *, low: float = 0.0, high: float = 0.0) -> Catalog:
    """Without watermarks unless asked for, so that every slot can be used."""
    store = Catalog(low_watermark=low, high_watermark=high)
    store.adopt(IDENTITY, LAYOUT, slots)
    return store


def session(store: Catalog, worker: str = "w", *, incarnation: int = 1, name: str | None = None) -> SessionId:
    known = SessionId(name or worker)
    assert store.hello(known, worker=worker, incarnation=incarnation, identity=IDENTITY) == []
    return known


def allocate(store: Catalog, owner: SessionId, text: str, *, hold: bool = False, short: bool = False) -> list[SlotRef]:
    """References of what was granted or is held; every name must be either."""
    answers = store.allocate(owner, names(text), last_is_short=short, hold=hold, now=0.0)
    assert all(isinstance(answer, Write | Held) for answer in answers), answers
    return [answer.ref for answer in answers if isinstance(answer, Write | Held)]


def seal(store: Catalog, owner: SessionId, refs: Sequence[SlotRef], *, now: float = 0.0) -> list[Answer]:
    """Seal with checksums that tell slots apart; all of them must be accepted."""
    sealed, answers = store.seal(owner, refs, [1000 + ref.slot for ref in refs], now=now)
    assert all(sealed)
    return answers


def put(store: Catalog, owner: SessionId, text: str, *, hold: bool = False, short: bool = False) -> list[SlotRef]:
    """Make the store hold all of ``text``; references to each of its blocks."""
    answers = store.allocate(owner, names(text), last_is_short=short, hold=hold, now=0.0)
    seal(store, owner, [answer for answer in answers if isinstance(answer, Write)])
    return [answer.ref for answer in answers if isinstance(answer, Write | Held)]


def leased(store: Catalog, owner: SessionId, text: str, *, call: int = 1) -> list[SlotRef]:
    """What ``owner`` gets of ``text`` without waiting."""
    (answer,) = store.acquire(owner, call, names(text), deadline=0.0, now=0.0)
    assert answer.done
    return [lease.ref for lease in answer.leases]


def carry_out(store: Catalog, *, now: float = 0.0, done: bool = True) -> list[Answer]:
    """Every move on this host, and every one that follows from it, ends as told; fetches are left alone."""
    answers: list[Answer] = []
    while moves := [move for move in store.moves(now=now) if not isinstance(move, Fetch)]:
        for move in moves:
            if isinstance(move, Demote):
                store.demoted(move, done=done, now=now)
            elif isinstance(move, Drop):
                store.dropped(move)
            else:
                answers += store.promoted(move, done=done, now=now)
    return answers


def disk(store: Catalog) -> DiskSnapshot:
    snapshot = store.snapshot().disk
    assert snapshot is not None, "there is no SSD tier"
    return snapshot


def on_disk(store: Catalog, text: str) -> str:
    """The letters of ``text`` whose blocks are on the SSD."""
    known = set(store.disk_names())
    return "".join(letter for letter, name in zip(text, names(text), strict=True) if name in known)


def held(store: Catalog, text: str) -> str:
    """The letters of ``text`` whose blocks the store holds."""
    known = set(store.held_names())
    return "".join(letter for letter, name in zip(text, names(text), strict=True) if name in known)
