"""The store as a plain object: who writes which slot, who may read it, and what waits for it.

The catalog is told facts with the time they were learned and answers with values; it owns
no clock, socket or memory. Bytes move between workers and the arena without it: a slot is
granted, written by its one session, sealed, and from then on only read, under leases.
Whatever a session holds ends with it. Always ``free + writing + sealed == total``.

A session's life:
    hello -> live -> end(dead=True): what it was writing is discarded, what it leased is released
                  -> end(dead=False): set aside. The worker may still be copying, so its slots stay as
                     they are until it is buried or says hello again; nobody waits for its writes any more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kvstore.blocks import Block, Blocks
from kvstore.eviction import EvictionPolicy, LeastRecentlyUsed, Watermarks
from kvstore.layout import Identity, KvLayout
from kvstore.names import BlockName
from kvstore.slots import SlotState
from kvstore.vocabulary import (
    Allocation,
    Answer,
    CatalogSnapshot,
    Changes,
    Held,
    IdentityMismatch,
    Lease,
    Refused,
    SessionId,
    SlotRef,
    Write,
    Writing,
)
from kvstore.waiting import Acquire, Waiting

__all__ = [
    "Allocation",
    "Answer",
    "Catalog",
    "CatalogSnapshot",
    "Changes",
    "Held",
    "IdentityMismatch",
    "Lease",
    "Refused",
    "SessionId",
    "SlotRef",
    "Write",
    "Writing",
]


@dataclass(slots=True)
class _Session:
    worker: str
    incarnation: int
    live: bool = True
    writing: dict[int, None] = field(default_factory=dict)  # slots, in the order they were granted
    leases: dict[int, int] = field(default_factory=dict)  # slot -> how many of its leases are ours


class Catalog:
    """One store's slots. ``low_watermark`` and ``high_watermark``: shares of all slots that should be free.

    Calls of a session that has ended, or was set aside, change nothing: they are answered
    with Refused, False or an empty last Answer, so a connection that lags behind does no harm.
    """

    # 2 % and 5 %: of 24 GiB that is half a GiB and a bit more than one, the KV of a few long prompts.
    def __init__(
        self, *, low_watermark: float = 0.02, high_watermark: float = 0.05, policy: EvictionPolicy | None = None
    ) -> None:
        self.identity: Identity | None = None
        self.layout: KvLayout | None = None
        self._policy: EvictionPolicy = LeastRecentlyUsed() if policy is None else policy
        self._watermarks = Watermarks(low_watermark, high_watermark)
        self._blocks = Blocks(0, self._policy, self._watermarks)
        self._sessions: dict[SessionId, _Session] = {}
        self._writing: dict[BlockName, int] = {}  # what live sessions are writing: name -> slot
        self._waiting = Waiting()

    # Sessions

    def adopt(self, identity: Identity, layout: KvLayout, slots_total: int) -> None:
        """Become the store of this deployment; slots exist from now on. ValueError where there would be none."""
        assert self.identity is None, "a store adopts one deployment in its life"
        if slots_total < 1:
            raise ValueError(f"the arena has no room for a single block of {layout.slot_bytes} bytes")
        self.identity = identity
        self.layout = layout
        self._blocks = Blocks(slots_total, self._policy, self._watermarks)

    def hello(self, session: SessionId, *, worker: str, incarnation: int, identity: Identity) -> list[Answer]:
        """Open a session; older ones of the same worker end, and whoever waited for their writes is answered.

        A process that says hello again (the same incarnation) promises that it has no copy to or
        from the arena under way, so what it held is freed. What another process of that name held
        is set aside until it is buried: it may hang, and wake up in the middle of a copy.
        Raises IdentityMismatch where worker and store differ in anything that KV depends on.
        """
        assert self.identity is not None, "the store has adopted nobody's identity yet"
        assert session not in self._sessions, f"session {session} exists already"
        differences = self.identity.differences(identity)
        if differences is not None:
            raise IdentityMismatch(differences)
        older = [(known, owner) for known, owner in self._sessions.items() if owner.worker == worker]
        answers = [a for known, owner in older for a in self.end(known, dead=owner.incarnation == incarnation)]
        self._sessions[session] = _Session(worker, incarnation)
        return answers

    def end(self, session: SessionId, *, dead: bool) -> list[Answer]:
        """The connection is gone; answers go to others, who waited for what this session wrote.

        dead: the worker is known to be, so its slots are freed. Else the session is set
        aside, unless it holds nothing. Sessions that are unknown have ended before: fine.
        """
        owner = self._sessions.get(session)
        if owner is None:
            return []
        abandoned = [self._blocks[slot].name for slot in owner.writing] if owner.live else []
        for name in abandoned:
            del self._writing[name]
        owner.live = False
        self._waiting.forget(session)
        if dead or not (owner.writing or owner.leases):
            self._bury(session, owner)
        return self._tell_missing(abandoned)

    def buried(self, session: SessionId) -> None:
        """The worker of a session that was set aside is dead now; fine if the session has ended meanwhile."""
        owner = self._sessions.get(session)
        if owner is not None:
            assert not owner.live, f"session {session} still has its connection"
            self._bury(session, owner)

    @property
    def set_aside(self) -> tuple[SessionId, ...]:
        """Sessions whose connection broke while their worker may still live, for the shell to watch."""
        return tuple(session for session, owner in self._sessions.items() if not owner.live)

    # Writing

    def allocate(
        self, session: SessionId, names: Sequence[BlockName], *, last_is_short: bool, hold: bool, now: float
    ) -> list[Allocation]:
        """One answer per name. Evicts what it needs, never a block that is among ``names``.

        names: of one prefix, in order; where they don't start at the root, one name more in
        front tells what they follow, and keeps the whole prefix together in eviction.
        hold: lease to this session what is held, and what it is granted as it is sealed.
        last_is_short: the last block serves a hand-over only: never reported, and dropped
        with its last lease (at once if it is sealed without any).
        """
        owner = self._live(session)
        if owner is None:
            return [Refused() for _ in names]
        self._blocks.index.follow(names)
        held = [self._blocks.index.get(name) for name in names]
        held_slots = [slot for slot in held if slot is not None]
        for held_slot in held_slots:  # keeps them from being evicted for their own successors
            self._lease(owner, held_slot)
        answers: list[Allocation] = []
        granted = 0
        parent: BlockName | None = None
        for position, (name, there) in enumerate(zip(names, held, strict=True)):
            if there is not None:
                answers.append(Held(there, self._blocks.slots.generation(there)))
            elif name in self._writing:
                answers.append(Writing())
            else:
                short = last_is_short and position == len(names) - 1
                slot = self._grant(owner, Block(name, parent, short, hold, now))
                granted += slot is not None
                answers.append(Refused() if slot is None else Write(slot, self._blocks.slots.generation(slot)))
            parent = name
        self._blocks.reclaim(granted)
        if not hold:
            self._release(owner, held_slots)
        return answers

    def seal(
        self, session: SessionId, slots: Sequence[SlotRef], checksums: Sequence[int], *, now: float
    ) -> tuple[list[bool], list[Answer]]:
        """These blocks are complete. False for each that is no longer this session's to write.

        Answers go to acquires that waited, at most one each; a name is sealed once, since
        while it is held or being written nobody else is granted it.
        """
        owner = self._live(session)
        results: list[bool] = []
        sealed: list[int] = []
        for ref, checksum in zip(slots, checksums, strict=True):
            mine = owner is not None and self._writes(owner, ref)
            results.append(mine)
            if owner is not None and mine:
                self._seal(owner, ref.slot, checksum)
                sealed.append(ref.slot)
        woken = [acquire for slot in sealed for acquire in self._waiting.wake(self._blocks[slot].name)]
        answers = [self._advance(acquire, now) for acquire in woken]
        self._blocks.settle(sealed)
        return results, answers

    def discard(self, session: SessionId, slots: Sequence[SlotRef]) -> list[Answer]:
        """These blocks will not be written after all; whoever waited for them is told that they are missing."""
        owner = self._live(session)
        if owner is None:
            return []
        names: list[BlockName] = []
        for ref in slots:
            if self._writes(owner, ref):
                name = self._blocks.discard(ref.slot).name
                del owner.writing[ref.slot]
                del self._writing[name]
                names.append(name)
        return self._tell_missing(names)

    # Reading

    def acquire(
        self, session: SessionId, call: int, names: Sequence[BlockName], *, deadline: float, now: float
    ) -> list[Answer]:
        """Lease the longest prefix of ``names`` there is, waiting until ``deadline`` for what is being written.

        Answered in parts, in prefix order, as blocks are sealed; the part with ``done`` is
        the last: all of it is leased, or the next name is neither held nor being written by
        a live session, or the deadline has come.
        """
        if self._live(session) is None:
            return [Answer(session, call, (), done=True)]
        self._blocks.index.follow(names)
        answer = self._advance(Acquire(session, call, tuple(names), deadline), now)
        return [answer] if answer.leases or answer.done else []

    def release(self, session: SessionId, slots: Sequence[SlotRef]) -> None:
        """End one lease per reference; on a block that this session still writes, its hold. Stale ones are ignored.

        References of one prefix are given in its order, as for ``allocate``.
        """
        owner = self._live(session)
        if owner is None:
            return
        leased: list[int] = []
        for ref in slots:
            if self._writes(owner, ref):
                self._blocks[ref.slot].hold = False
            elif self._blocks.slots.is_current(ref.slot, ref.generation):
                leased.append(ref.slot)
        self._release(owner, leased)

    # Time, and what others want to know

    def tick(self, *, now: float) -> list[Answer]:
        """The last answers of acquires whose deadline has come."""
        return [Answer(acquire.session, acquire.call, (), done=True) for acquire in self._waiting.expire(now=now)]

    @property
    def next_deadline(self) -> float | None:
        """When ``tick`` is due; None while nothing waits."""
        return self._waiting.next_deadline

    def changes(self) -> Changes:
        """What was gained and lost since this was last asked; short blocks never count."""
        return self._blocks.changes()

    def held_names(self) -> list[BlockName]:
        """Every sealed block but the short ones."""
        return self._blocks.names()

    def reset(self) -> int:
        """Drop every sealed block that nobody leases; returns how many there were."""
        return self._blocks.reset()

    def snapshot(self) -> CatalogSnapshot:
        slots = self._blocks.slots
        granted = [self._blocks[slot].granted_at for owner in self._sessions.values() for slot in owner.writing]
        return CatalogSnapshot(
            total=slots.total,
            free=slots.free,
            writing=slots.writing,
            sealed=slots.sealed,
            leases=slots.leases,
            evictable=self._blocks.evictable,
            evicted=self._blocks.evicted,
            waiting=len(self._waiting),
            oldest_write=min(granted, default=None),
            sessions=tuple(owner.worker for owner in self._sessions.values() if owner.live),
            set_aside=tuple(owner.worker for owner in self._sessions.values() if not owner.live),
        )

    def check(self) -> None:
        """Assert the conservation laws, counting everything anew."""
        self._blocks.check()
        slots = self._blocks.slots
        written = [slot for owner in self._sessions.values() for slot in owner.writing]
        assert len(set(written)) == len(written) == slots.writing, "a slot is half-written for nobody, or for two"
        assert all(slots.state(slot) is SlotState.WRITING for slot in written), "a session writes what is sealed"
        live = {self._blocks[slot].name: slot for o in self._sessions.values() if o.live for slot in o.writing}
        assert self._writing == live, "names being written by live sessions are not those known to be"
        assert not any(self._blocks.index.get(name) is not None for name in live), "a name is held and being written"
        for slot in range(slots.total):
            leases = sum(owner.leases.get(slot, 0) for owner in self._sessions.values())
            assert leases == slots.leases_on(slot), f"slot {slot}: a lease without a session, or the reverse"
        for acquire in self._waiting.all():
            assert acquire.next_name in self._writing, "an acquire waits for what nobody writes"
            assert self._live(acquire.session) is not None, "an acquire waits for nobody"

    def _live(self, session: SessionId) -> _Session | None:
        owner = self._sessions.get(session)
        return owner if owner is not None and owner.live else None

    def _writes(self, owner: _Session, ref: SlotRef) -> bool:
        return ref.slot in owner.writing and self._blocks.slots.is_current(ref.slot, ref.generation)

    def _grant(self, owner: _Session, block: Block) -> int | None:
        slot = self._blocks.grant(block)
        if slot is not None:
            owner.writing[slot] = None
            self._writing[block.name] = slot
        return slot

    def _seal(self, owner: _Session, slot: int, checksum: int) -> None:
        block = self._blocks.seal(slot, checksum)
        del owner.writing[slot]
        del self._writing[block.name]
        if block.hold:
            self._lease(owner, slot)

    def _lease(self, owner: _Session, slot: int) -> Lease:
        owner.leases[slot] = owner.leases.get(slot, 0) + 1
        return self._blocks.lease(slot)

    def _release(self, owner: _Session, slots: Iterable[int]) -> None:
        """End one lease of this session on each, where it has one."""
        released: list[int] = []
        for slot in slots:
            count = owner.leases.get(slot, 0)
            if count > 1:
                owner.leases[slot] = count - 1
            elif count == 1:
                del owner.leases[slot]
            else:
                continue
            self._blocks.release(slot)
            released.append(slot)
        self._blocks.settle(released)

    def _advance(self, acquire: Acquire, now: float) -> Answer:
        """Lease what has come; wait for the next name, or be done."""
        owner = self._sessions[acquire.session]
        slots = self._blocks.index.prefix(acquire.names, acquire.position)
        leases = tuple([self._lease(owner, slot) for slot in slots])
        acquire.position += len(leases)
        finished = acquire.position == len(acquire.names)
        waits = not finished and now < acquire.deadline and acquire.next_name in self._writing
        if waits:
            self._waiting.add(acquire)
        return Answer(acquire.session, acquire.call, leases, done=not waits)

    def _tell_missing(self, names: Iterable[BlockName]) -> list[Answer]:
        return [
            Answer(acquire.session, acquire.call, (), done=True)
            for name in names
            for acquire in self._waiting.wake(name)
        ]

    def _bury(self, session: SessionId, owner: _Session) -> None:
        for slot in owner.writing:
            self._blocks.discard(slot)
        self._release(owner, [slot for slot, count in owner.leases.items() for _ in range(count)])
        del self._sessions[session]
