"""The store as a plain object: who writes which slot, who may read it, and what waits for it.

The catalog is told facts with the time they were learned and answers with values; it owns
no clock, socket or memory. Bytes move between workers and the arena without it: a slot is
granted, written by its one session, sealed, and from then on only read, under leases.
Whatever a session holds ends with it. Always ``free + writing + sealed == total``, in each tier.

A session's life:
    hello -> live -> end(dead=True): what it was writing is discarded, what it leased is released
                  -> end(dead=False): set aside. The worker may still be copying, so its slots stay as
                     they are until it is buried or says hello again; nobody waits for its writes any more.
"""

from collections.abc import Iterable, Iterator, Sequence

from kvstore.blocks import Block
from kvstore.digest import Digest
from kvstore.eviction import EvictionPolicy, LeastRecentlyUsed, Watermarks
from kvstore.layout import Identity, KvLayout
from kvstore.lookahead import PROMOTIONS
from kvstore.names import BlockName
from kvstore.plan import Plan
from kvstore.readers import Readers
from kvstore.sessions import Sessions
from kvstore.vocabulary import (
    Admit,
    Allocation,
    Answer,
    CatalogSnapshot,
    Changes,
    Demote,
    DiskEntry,
    DiskSnapshot,
    Drop,
    Held,
    Hits,
    IdentityMismatch,
    Move,
    Peer,
    Promote,
    Refused,
    SessionId,
    SlotCounts,
    SlotRef,
    Write,
    Writing,
)
from kvstore.waiting import Acquire
from kvstore.write_behind import WriteBehind


class Catalog:
    """One store's slots. ``low_watermark`` and ``high_watermark``: shares of all slots that should be free.

    admit: which blocks are written behind to the SSD. demotes, promotes: how many blocks may be
    written to it, and read from it, at a time. keeps: whether blocks outlive their hand-over; else every
    block is as a short one, and what nobody holds on to is refused. Calls of a session that has ended,
    or was set aside, change nothing: they are answered with Refused, False or an empty last Answer, so
    a connection that lags behind does no harm. After each call the shell asks for ``moves``.
    """

    # 2 % and 5 %: of 24 GiB that is half a GiB and a bit more than one, the KV of a few long prompts.
    def __init__(
        self,
        *,
        low_watermark: float = 0.02,
        high_watermark: float = 0.05,
        policy: EvictionPolicy | None = None,
        disk_policy: EvictionPolicy | None = None,
        admit: Admit = Admit.ALL,
        demotes: int = 16,
        promotes: int = 16,
        keeps: bool = True,
    ) -> None:
        self.identity: Identity | None = None
        self.layout: KvLayout | None = None
        self._keeps = keeps
        self._plan = Plan(
            LeastRecentlyUsed() if policy is None else policy,
            LeastRecentlyUsed() if disk_policy is None else disk_policy,
            Watermarks(low_watermark, high_watermark),
            WriteBehind(admit),
            demotes=demotes,
            promotes=promotes,
        )
        self._blocks = self._plan.dram
        self._sessions = Sessions(self._plan)
        self._readers = Readers(self._plan, self._sessions)

    # Sessions

    def adopt(self, identity: Identity, layout: KvLayout, slots_total: int) -> None:
        """Become the store of this deployment; slots exist from now on. ValueError where there would be none."""
        assert self.identity is None, "a store adopts one deployment in its life"
        if slots_total < 1:
            raise ValueError(f"the arena has no room for a single block of {layout.slot_bytes} bytes")
        self.identity = identity
        self.layout = layout
        self._blocks.furnish(slots_total)

    def hello(self, session: SessionId, *, worker: str, incarnation: int, identity: Identity) -> list[Answer]:
        """Open a session; older ones of the same worker end, and whoever waited for their writes is answered.

        A process that says hello again (the same incarnation) promises that it has no copy to or
        from the arena under way, so what it held is freed. What another process of that name held
        is set aside until it is buried: it may hang, and wake up in the middle of a copy.
        Raises IdentityMismatch where worker and store differ in anything that KV depends on.
        """
        assert self.identity is not None, "the store has adopted nobody's identity yet"
        differences = self.identity.differences(identity)
        if differences is not None:
            raise IdentityMismatch(differences)
        older = self._sessions.of_worker(worker)
        answers = [a for known, owner in older for a in self.end(known, dead=owner.incarnation == incarnation)]
        self._sessions.open(session, worker, incarnation)
        return answers

    def join(self, session: SessionId, *, owner: str) -> None:
        """Open a session for an errand of the store's own, e.g. a peer's push; several may have one owner."""
        self._sessions.open(session, owner, None)

    def end(self, session: SessionId, *, dead: bool) -> list[Answer]:
        """The connection is gone; answers go to others, who waited for what this session wrote.

        dead: the worker is known to be, so its slots are freed. Else the session is set
        aside, unless it holds nothing. Sessions that are unknown have ended before: fine.
        """
        owner = self._sessions.get(session)
        if owner is None:
            return []
        abandoned = self._sessions.abandon(owner)
        self._readers.forget(session)
        if dead or not (owner.writing or owner.leases):
            self._sessions.bury(session)
        return self._readers.missing(abandoned)

    def buried(self, session: SessionId) -> None:
        """The worker of a session that was set aside is dead now; fine if the session has ended meanwhile."""
        owner = self._sessions.get(session)
        if owner is not None:
            assert not owner.live, f"session {session} still has its connection"
            self._sessions.bury(session)

    @property
    def set_aside(self) -> tuple[SessionId, ...]:
        """Sessions whose connection broke while their worker may still live, for the shell to watch."""
        return self._sessions.set_aside

    # Writing

    def allocate(
        self, session: SessionId, names: Sequence[BlockName], *, last_is_short: bool, hold: bool, now: float
    ) -> list[Allocation]:
        """One answer per name. Where no slot is free it evicts what it needs, never a block that is among ``names``.

        names: of one prefix, in order; where they don't start at the root, one name more in
        front tells what they follow, and keeps the whole prefix together in eviction.
        hold: lease to this session what is held, and what it is granted as it is sealed.
        last_is_short: the last block serves a hand-over only: never reported, and dropped
        with its last lease (at once if it is sealed without any).
        """
        owner = self._sessions.live(session)
        if owner is None:
            return [Refused() for _ in names]
        self._blocks.index.follow(names)
        held = [self._blocks.index.get(name) for name in names]
        held_slots = [slot for slot in held if slot is not None]
        for held_slot in held_slots:  # keeps them from being evicted for their own successors
            self._sessions.keep(owner, held_slot)
        answers: list[Allocation] = []
        parent: BlockName | None = None
        for position, (name, there) in enumerate(zip(names, held, strict=True)):
            if there is not None:
                answers.append(Held(there, self._blocks.slots.generation(there)))
            elif name in self._sessions.writing:
                answers.append(Writing())
            elif not (hold or self._keeps):
                answers.append(Refused())
            else:
                short = not self._keeps or (last_is_short and position == len(names) - 1)
                depth = self._sessions.depth_after(parent)
                slot = self._sessions.grant(owner, Block(name, parent, short, hold, now, depth=depth))
                answers.append(Refused() if slot is None else Write(slot, self._blocks.slots.generation(slot)))
            parent = name
        if not hold:
            self._sessions.release(owner, held_slots)
        return answers

    def seal(
        self, session: SessionId, slots: Sequence[SlotRef], checksums: Sequence[int], *, now: float
    ) -> tuple[list[bool], list[Answer]]:
        """These blocks are complete. False for each that is no longer this session's to write.

        Answers go to acquires that waited, at most one each; a name is sealed once, since
        while it is held or being written nobody else is granted it.
        """
        owner = self._sessions.live(session)
        results: list[bool] = []
        sealed: list[int] = []
        for ref, checksum in zip(slots, checksums, strict=True):
            mine = owner is not None and self._sessions.writes(owner, ref)
            results.append(mine)
            if owner is not None and mine:
                self._sessions.seal(owner, ref.slot, checksum, now=now)
                sealed.append(ref.slot)
        answers = self._readers.sealed(sealed, now=now)
        # What is leased counts as used when it is released, all before it too: a long prompt is sealed in many calls.
        if idle := [slot for slot in sealed if not self._blocks.slots.leases_on(slot)]:
            self._plan.settle(idle)
        return results, answers

    def discard(self, session: SessionId, slots: Sequence[SlotRef]) -> list[Answer]:
        """These blocks will not be written after all; whoever waited for them is told that they are missing."""
        owner = self._sessions.live(session)
        if owner is None:
            return []
        mine = [ref.slot for ref in slots if self._sessions.writes(owner, ref)]
        return self._readers.missing([self._sessions.discard(owner, slot) for slot in dict.fromkeys(mine)])

    def written_by(self, session: SessionId, names: Iterable[BlockName]) -> list[SlotRef | None]:
        """Where this session is writing each of these; None for what it is not."""
        owner = self._sessions.live(session)
        slots = [self._sessions.writing.get(name) for name in names]
        mine = [slot if owner is not None and slot in owner.writing else None for slot in slots]
        return [None if slot is None else self._blocks.ref(slot) for slot in mine]

    def is_being_written(self, name: BlockName) -> bool:
        """Whether a live session has been granted a slot for it, and has not sealed it yet."""
        return name in self._sessions.writing

    def lineage(self, name: BlockName) -> list[BlockName]:
        """The held blocks that ``name`` follows, as far as that is known, and itself, root first; empty if gone."""
        index = self._blocks.index
        slot = index.get(name)
        slots = [] if slot is None else index.leaf_first([slot])
        return [self._blocks[slot].name for slot in reversed(slots)]

    # Reading

    def acquire(
        self,
        session: SessionId,
        call: int,
        names: Sequence[BlockName],
        *,
        deadline: float,
        now: float,
        handoff: bool = False,
        source: Peer | None = None,
        fetchable: int | None = None,
    ) -> list[Answer]:
        """Lease the longest prefix of ``names`` there is, waiting until ``deadline`` for what is on its way.

        Answered in parts, in prefix order, as blocks come; the part with ``done`` is the last: all of
        it is leased, or the next name is neither held nor on its way, or the deadline has come. What
        is on the SSD is on its way once it was asked for, if there is room; what is found nowhere is
        fetched from ``source``, as far as it is among the first ``fetchable`` names (None: all).
        handoff: what live sessions are writing is waited for, too; else this is a lookup, and counted as one.
        """
        if self._sessions.live(session) is None:
            return [Answer(session, call, (), done=True)]
        most = len(names) if fetchable is None else fetchable
        return self._readers.acquire(Acquire(session, call, tuple(names), deadline, handoff, source, most), now=now)

    def release(self, session: SessionId, slots: Sequence[SlotRef]) -> None:
        """End one lease per reference; on a block that this session still writes, its hold. Stale ones are ignored.

        References of one prefix are given in its order, as for ``allocate``.
        """
        owner = self._sessions.live(session)
        if owner is None:
            return
        leased: list[int] = []
        for ref in slots:
            if self._sessions.writes(owner, ref):
                self._blocks[ref.slot].hold = False
            elif self._blocks.slots.is_current(ref.slot, ref.generation):
                leased.append(ref.slot)
        self._sessions.release(owner, leased, counted=True)

    # The SSD, and moves

    def attach_disk(self, slots_total: int, entries: Iterable[DiskEntry]) -> None:
        """The SSD tier is there from now on. entries: what a scan found, the block used longest ago first."""
        for _ in self.attaching_disk(slots_total, entries):
            pass

    def attaching_disk(self, slots_total: int, entries: Iterable[DiskEntry]) -> Iterator[int]:
        """The same in steps, each of ``plan.ATTACHED_AT_ONCE`` entries at most: the tier is there after the last.

        Between any two this catalog may be asked anything.
        """
        assert self.layout is not None, "the store has adopted nobody's layout yet"
        return self._plan.attach(slots_total, self.layout.block_tokens, entries)

    def detach_disk(self, *, now: float) -> list[Answer]:
        """The SSD tier has switched itself off; fine if there is none. Moves under way end as they end."""
        return self.discard(PROMOTIONS, [promote.target for promote in self._plan.detach()])

    def disk_entries(self) -> list[DiskEntry]:
        """What can be read back from the SSD, for ``attach_disk`` of a later catalog."""
        return [] if self._plan.disk is None else self._plan.disk.entries()

    def moves(self, *, now: float) -> list[Move]:
        """What is to begin now: what somebody waits for first, then write-behind, then drops; bounded.

        Each is to be told the end of: ``demoted``, ``promoted``, ``dropped``; of a fetch, ``seal`` block by
        block as they come, and ``end(fetch.session, dead=True)``.
        """
        return self._plan.moves()

    def demoted(self, move: Demote, *, done: bool, now: float) -> None:
        """It is on the disk, or could not be written."""
        self._plan.demoted(move, done=done)

    def promoted(self, move: Promote, *, done: bool, now: float) -> list[Answer]:
        """It was read back and is intact. done=False: it is not; it is forgotten, and whoever waits is told so."""
        self._plan.promoted(move, done=done)
        if done:
            return self.seal(PROMOTIONS, [move.target], [move.checksum], now=now)[1]
        return self.discard(PROMOTIONS, [move.target])

    def dropped(self, move: Drop) -> None:
        """It is forgotten, unless somebody has leased it since it was told."""
        self._plan.dropped(move)

    # Time, and what others want to know

    def tick(self, *, now: float) -> list[Answer]:
        """The last answers of acquires whose deadline has come."""
        return self._readers.tick(now=now)

    @property
    def next_deadline(self) -> float | None:
        """When ``tick`` is due; None while nothing waits."""
        return self._readers.next_deadline

    def changes(self) -> Changes:
        """What was gained and lost in each tier since this was last asked; short blocks never count."""
        return self._plan.changes()

    def digests(self) -> tuple[Digest, Digest]:
        """Of ``held_names`` and of ``disk_names``, as whoever was told of every change should have them, too."""
        return self._plan.digests()

    def held_names(self) -> list[BlockName]:
        """Every sealed block in DRAM but the short ones."""
        return self._blocks.names()

    def disk_names(self) -> list[BlockName]:
        """Every block on the SSD."""
        return [] if self._plan.disk is None else self._plan.disk.names()

    def reset(self) -> int:
        """Drop every block that nobody leases, from both tiers; returns how many there were in DRAM."""
        return self._plan.reset()

    def snapshot(self) -> CatalogSnapshot:
        slots = self._blocks.slots
        return CatalogSnapshot(
            total=slots.total,
            free=slots.free,
            writing=slots.writing,
            sealed=slots.sealed,
            leases=self._blocks.leases,
            evictable=self._blocks.evictable,
            evicted=self._plan.evicted,
            waiting=len(self._readers),
            oldest_write=self._sessions.oldest_write,
            sessions=self._sessions.workers(live=True),
            set_aside=self._sessions.workers(live=False),
            owners=self._sessions.owners(),
            hits=self._readers.hits,
            disk=self._plan.disk_snapshot(),
        )

    @property
    def slots(self) -> SlotCounts:
        """Counts alone: what reports need ten times a second."""
        slots = self._blocks.slots
        return SlotCounts(slots.total, slots.free, slots.writing, slots.sealed, self._blocks.leases)

    @property
    def hits(self) -> Hits:
        return self._readers.hits

    @property
    def disk(self) -> DiskSnapshot | None:
        """None while there is no SSD tier."""
        return self._plan.disk_snapshot()

    def check(self) -> None:
        """Assert the conservation laws, counting everything anew."""
        self._plan.check()
        self._sessions.check()
        self._readers.check()
