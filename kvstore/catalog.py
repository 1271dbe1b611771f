"""The store as a plain object: who writes which slot, who may read it, and what waits for it.

The catalog is told facts with the time they were learned and answers with values; it owns
no clock, socket or memory. Bytes move between workers and the arena without it: a slot is
granted, written by its one session, sealed, and from then on only read, under leases.
Whatever a session holds ends with it. Always ``free + writing + sealed == total``.

A session's life:
    hello -> live -> end(dead=True): what it was writing is discarded, what it leased is released
                  -> end(dead=False): set aside. The worker may still be copying, so its slots stay as
                     they are until it is buried or says hello again; nobody waits for its writes any more.

Evictable are exactly the sealed slots that nobody leases. A use of a block is a use of all blocks
before it, leaf first and root last, so that the policy always drops tails before heads.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kvstore.eviction import EvictionPolicy, LeastRecentlyUsed, Watermarks
from kvstore.index import Index
from kvstore.layout import Identity, KvLayout
from kvstore.names import BlockName
from kvstore.slots import Slots, SlotState
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
class _Block:
    """What a slot in use holds. hold: lease it to its writer as it is sealed. granted_at: monotonic seconds."""

    name: BlockName
    parent: BlockName | None
    writer: SessionId
    short: bool
    hold: bool
    granted_at: float
    checksum: int = 0


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
        self._watermarks = Watermarks(low_watermark, high_watermark)
        self._policy: EvictionPolicy = LeastRecentlyUsed() if policy is None else policy
        self._slots = Slots(0)
        self._index = Index()  # sealed blocks
        self._blocks: dict[int, _Block] = {}  # one for each slot that is not free
        self._writing: dict[BlockName, int] = {}  # names that live sessions are writing
        self._sessions: dict[SessionId, _Session] = {}
        self._waiting = Waiting()
        self._reclaiming = False
        self._evicted = 0
        self._gained: dict[BlockName, None] = {}
        self._lost: dict[BlockName, None] = {}

    # Sessions

    def adopt(self, identity: Identity, layout: KvLayout, slots_total: int) -> None:
        """Become the store of this deployment; slots exist from now on. ValueError where there would be none."""
        assert self.identity is None, "a store adopts one deployment in its life"
        if slots_total < 1:
            raise ValueError(f"the arena has no room for a single block of {layout.slot_bytes} bytes")
        self.identity = identity
        self.layout = layout
        self._slots = Slots(slots_total)

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
        self._index.follow(names)
        held = [self._index.get(name) for name in names]
        held_slots = [slot for slot in held if slot is not None]
        for held_slot in held_slots:  # keeps them from being evicted for their own successors
            self._lease(owner, held_slot)
        answers: list[Allocation] = []
        granted = 0
        parent: BlockName | None = None
        for position, (name, there) in enumerate(zip(names, held, strict=True)):
            if there is not None:
                answers.append(Held(there, self._slots.generation(there)))
            elif name in self._writing:
                answers.append(Writing())
            elif (slot := self._room()) is None:
                answers.append(Refused())
            else:
                short = last_is_short and position == len(names) - 1
                self._blocks[slot] = _Block(name, parent, session, short, hold, now)
                self._writing[name] = slot
                owner.writing[slot] = None
                answers.append(Write(slot, self._slots.generation(slot)))
                granted += 1
            parent = name
        self._reclaim(granted)
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
        self._settle(sealed)
        return results, answers

    def discard(self, session: SessionId, slots: Sequence[SlotRef]) -> list[Answer]:
        """These blocks will not be written after all; whoever waited for them is told that they are missing."""
        owner = self._live(session)
        if owner is None:
            return []
        names: list[BlockName] = []
        for ref in slots:
            if self._writes(owner, ref):
                name = self._discard(owner, ref.slot)
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
        self._index.follow(names)
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
            elif self._slots.is_current(ref.slot, ref.generation):
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
        changes = Changes(tuple(self._gained), tuple(self._lost))
        self._gained.clear()
        self._lost.clear()
        return changes

    def held_names(self) -> list[BlockName]:
        """Every sealed block but the short ones."""
        return [block.name for slot, block in self._blocks.items() if self._is_reported(slot, block)]

    def reset(self) -> int:
        """Drop every sealed block that nobody leases; returns how many there were."""
        dropped = 0
        while (slot := self._policy.victim()) is not None:
            self._drop(slot)
            dropped += 1
        return dropped

    def snapshot(self) -> CatalogSnapshot:
        granted = [self._blocks[slot].granted_at for owner in self._sessions.values() for slot in owner.writing]
        return CatalogSnapshot(
            total=self._slots.total,
            free=self._slots.free,
            writing=self._slots.writing,
            sealed=self._slots.sealed,
            leases=self._slots.leases,
            evictable=len(self._policy),
            evicted=self._evicted,
            waiting=len(self._waiting),
            oldest_write=min(granted, default=None),
            sessions=tuple(owner.worker for owner in self._sessions.values() if owner.live),
            set_aside=tuple(owner.worker for owner in self._sessions.values() if not owner.live),
        )

    # Inside: each of these does one thing to one noun, and leaves the laws of ``check`` kept once its caller ends

    def _live(self, session: SessionId) -> _Session | None:
        owner = self._sessions.get(session)
        return owner if owner is not None and owner.live else None

    def _writes(self, owner: _Session, ref: SlotRef) -> bool:
        return ref.slot in owner.writing and self._slots.is_current(ref.slot, ref.generation)

    def _room(self) -> int | None:
        """A slot to write, evicting for it if need be. None: everything is leased or half-written."""
        if not self._slots.free and (victim := self._policy.victim()) is not None:
            self._evict(victim)
        return self._slots.allocate()

    def _reclaim(self, granted: int) -> None:
        """Evict ahead of need, at most two slots for each one granted, so that no single call pays for a backlog."""
        if self._slots.free < self._watermarks.low_slots(self._slots.total):
            self._reclaiming = True
        high = self._watermarks.high_slots(self._slots.total)
        for _ in range(2 * granted if self._reclaiming else 0):
            victim = self._policy.victim()
            if victim is None or self._slots.free >= high:
                self._reclaiming = False
                return
            self._evict(victim)

    def _evict(self, slot: int) -> None:
        """The one place where room is made: what a lower tier should keep is to be copied before it."""
        self._drop(slot)
        self._evicted += 1

    def _seal(self, owner: _Session, slot: int, checksum: int) -> None:
        block = self._blocks[slot]
        self._slots.seal(slot)
        block.checksum = checksum
        del owner.writing[slot]
        del self._writing[block.name]
        self._index.add(block.name, slot, block.parent)
        if not block.short:
            self._changed(block.name, into=self._gained, out_of=self._lost)
        if block.hold:
            self._lease(owner, slot)

    def _discard(self, owner: _Session, slot: int) -> BlockName:
        del owner.writing[slot]
        self._slots.discard(slot)
        return self._blocks.pop(slot).name

    def _drop(self, slot: int) -> None:
        self._policy.withdraw(slot)
        self._slots.drop(slot)
        block = self._blocks.pop(slot)
        self._index.remove(block.name)
        if not block.short:
            self._changed(block.name, into=self._lost, out_of=self._gained)

    def _lease(self, owner: _Session, slot: int) -> Lease:
        if self._slots.lease(slot) == 1:
            self._policy.withdraw(slot)
        owner.leases[slot] = owner.leases.get(slot, 0) + 1
        return Lease(slot, self._slots.generation(slot), self._blocks[slot].checksum)

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
            self._slots.release(slot)
            released.append(slot)
        self._settle(released)

    def _settle(self, slots: Sequence[int]) -> None:
        """These sealed blocks were used: who has no lease becomes evictable, or is dropped if it is short."""
        for slot in self._index.leaf_first(slots):
            if not self._slots.leases_on(slot):
                if self._blocks[slot].short:
                    self._drop(slot)
                else:
                    self._policy.used(slot)

    def _advance(self, acquire: Acquire, now: float) -> Answer:
        """Lease what has come; wait for the next name, or be done."""
        owner = self._sessions[acquire.session]
        slots = self._index.prefix(acquire.names, acquire.position)
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
        for slot in list(owner.writing):
            self._discard(owner, slot)
        self._release(owner, [slot for slot, count in owner.leases.items() for _ in range(count)])
        del self._sessions[session]

    def _is_reported(self, slot: int, block: _Block) -> bool:
        return not block.short and self._slots.state(slot) is SlotState.SEALED

    @staticmethod
    def _changed(name: BlockName, *, into: dict[BlockName, None], out_of: dict[BlockName, None]) -> None:
        """Gained and lost again since last asked is nothing to tell."""
        if name in out_of:
            del out_of[name]
        else:
            into[name] = None

    def check(self) -> None:
        """Assert the conservation laws, counting everything anew."""
        self._slots.check()
        self._index.check()
        used = {slot for slot in range(self._slots.total) if self._slots.state(slot) is not SlotState.FREE}
        assert self._blocks.keys() == used, "a slot in use has no block, or a free one has"
        sealed = {slot for slot in used if self._slots.state(slot) is SlotState.SEALED}
        assert {self._index.get(self._blocks[slot].name) for slot in sealed} == sealed, "a sealed block can't be found"
        assert len(self._index) == len(sealed), "the index knows a block that is not sealed"
        written = [slot for owner in self._sessions.values() for slot in owner.writing]
        assert sorted(written) == sorted(used - sealed), "a slot is half-written for nobody, or for two"
        live = {self._blocks[slot].name: slot for o in self._sessions.values() if o.live for slot in o.writing}
        assert self._writing == live, "names being written by live sessions"
        assert not any(self._index.get(name) is not None for name in live), "a name is held and being written"
        for slot in used:
            leases = sum(owner.leases.get(slot, 0) for owner in self._sessions.values())
            assert leases == self._slots.leases_on(slot), f"slot {slot}: a lease without a session, or the reverse"
            evictable = slot in sealed and not leases
            assert (slot in self._policy) == evictable, f"slot {slot}: evictable or not?"
            assert not (evictable and self._blocks[slot].short), f"slot {slot}: a short block outlived its leases"
        assert len(self._policy) == sum(not self._slots.leases_on(slot) for slot in sealed), "a ghost is evictable"
        for acquire in self._waiting.all():
            assert acquire.next_name in self._writing, "an acquire waits for what nobody writes"
            assert self._live(acquire.session) is not None, "an acquire waits for nobody"
        assert not self._gained.keys() & self._lost.keys(), "a name was gained and lost"
