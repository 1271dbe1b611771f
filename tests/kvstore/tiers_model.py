"""What the machine of both tiers knows: dictionaries that stand for the bytes in arena and file.

The model does the copies that the catalog plans, at whatever time, and checks every answer: a slot that is given
away while somebody copies, a block that is served under a wrong name, one that got lost, a reader that is told
missing what could be had. Which blocks were evicted it takes from the catalog, after checking that it might be so.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
)

from kvstore.catalog import Catalog
from kvstore.eviction import policy
from kvstore.names import BlockName
from kvstore.vocabulary import (
    Admit,
    Answer,
    Demote,
    DiskEntry,
    Drop,
    Fetch,
    Held,
    Lease,
    Move,
    Peer,
    Promote,
    SessionId,
    SlotRef,
    Write,
)
from tests.kvstore.builders import IDENTITY, LAYOUT

WORKERS = ("w0", "w1")
PEER = Peer("store-1", "127.0.0.1:1")
TORN = "torn"


def checksum(name: BlockName) -> int:
    return int.from_bytes(name[:8], "little")


@dataclass
class Block:
    name: BlockName
    ref: SlotRef
    short: bool
    hold: bool = False
    leases: Counter[SessionId] = field(default_factory=Counter)

    @property
    def leased(self) -> bool:
        return bool(+self.leases)


@dataclass
class Session:
    owner: str
    incarnation: int | None
    live: bool = True
    writing: list[Block] = field(default_factory=list)


@dataclass
class Wait:
    names: list[BlockName]  # that are not leased yet
    deadline: float
    handoff: bool
    counted: bool


class TiersModel(RuleBasedStateMachine):
    """The machine sets what follows here once, and calls ``start`` for each new process."""

    total: int
    disk_total: int
    marks: tuple[float, float]
    eviction: str
    admit: Admit
    at_a_time: int
    file: dict[int, BlockName | str]
    now: float
    calls: int

    def start(self, old_refs: list[SlotRef]) -> None:
        """A new process: an empty arena, and nobody knows anything."""
        self.catalog = Catalog(
            low_watermark=self.marks[0],
            high_watermark=self.marks[1],
            policy=policy(self.eviction),
            disk_policy=policy(self.eviction),
            admit=self.admit,
            demotes=self.at_a_time,
            promotes=self.at_a_time,
        )
        self.catalog.adopt(IDENTITY, LAYOUT, self.total)
        self.arena: dict[int, BlockName] = {}
        self.sessions: dict[SessionId, Session] = {}
        self.held: dict[BlockName, Block] = {}
        self.waits: dict[tuple[SessionId, int], Wait] = {}
        self.moves: list[Move] = []  # under way
        self.orphans: list[Move] = []  # of those, the ones whose disk was switched off or emptied meanwhile
        self.fetched: dict[SessionId, int] = {}  # how many blocks of each fetch have come
        self.attached = False
        self.emptied = False  # by a reset: moves of before may end, or even begin, after it
        self.on_disk: set[BlockName] = set()
        self.pending: set[BlockName] = set()
        self.seen: set[BlockName] = set()
        self.lost_pending = 0
        self.torn = 0
        self.disk_evicted = 0
        self.told: set[BlockName] = set()  # what a conductor that only hears changes believes
        self.told_ssd: set[BlockName] = set()
        self.asked = 0
        self.leased_by_lookups = 0
        self.old_refs = [SlotRef(0, 0), SlotRef(99, 1), *old_refs]

    def attach(self, entries: list[DiskEntry]) -> None:
        self.catalog.attach_disk(self.disk_total, entries)
        self.emptied = False
        self.attached = True
        self.lost_pending = self.torn = self.disk_evicted = 0
        self.on_disk = set(self.catalog.disk_names())
        for block in self.held.values():
            self.now_in_dram(block)

    @property
    def live(self) -> list[SessionId]:
        return [name for name, session in self.sessions.items() if session.live]

    @property
    def mine(self) -> list[SessionId]:
        """Live sessions of workers and of peers that push; fetches are the store's."""
        return [name for name in self.live if name not in self.fetched]

    @property
    def demotes(self) -> list[Demote]:
        return [move for move in self.moves if isinstance(move, Demote)]

    @property
    def promotes(self) -> list[Promote]:
        return [move for move in self.moves if isinstance(move, Promote)]

    @property
    def pinned(self) -> set[int]:
        return {move.source.slot for move in self.demotes}

    def evictable(self) -> set[BlockName]:
        return {b.name for b in self.held.values() if not b.leased and b.ref.slot not in self.pinned}

    def now_in_dram(self, block: Block) -> None:
        """Whether it is to be written behind."""
        if not self.attached or block.short or block.name in self.on_disk or block.ref.slot in self.pinned:
            return
        if self.admit is Admit.ALL or block.name in self.seen:
            self.pending.add(block.name)
            self.seen.discard(block.name)
        else:
            self.seen.add(block.name)

    def granted(self, ref: SlotRef) -> None:
        """This slot is about to be written: nobody may be reading it, or writing it already."""
        busy = {block.ref.slot for block in self.held.values() if block.leased} | self.pinned
        busy |= {block.ref.slot for session in self.sessions.values() for block in session.writing}
        busy |= {move.target.slot for move in self.promotes}
        assert ref.slot not in busy, "a slot was given away while somebody copies"

    def sealed(self, block: Block) -> None:
        assert block.name not in self.held, "a name was sealed twice"
        self.arena[block.ref.slot] = block.name
        self.held[block.name] = block
        self.now_in_dram(block)

    def follow(self) -> None:
        """Take over what was evicted, once that is seen to be the catalog's right."""
        for block in [block for block in self.held.values() if block.short and not block.leased]:
            del self.held[block.name]
            self.old_refs.append(block.ref)
        gone = {n for n, b in self.held.items() if not b.short} - set(self.catalog.held_names())
        assert gone <= self.evictable(), "a block was evicted that somebody copies"
        for name in gone:
            self.old_refs.append(self.held.pop(name).ref)
            self.lost_pending += name in self.pending
            self.pending.discard(name)
        dropped = self.on_disk - set(self.catalog.disk_names())
        reading = {move.name for move in self.promotes if move not in self.orphans}
        assert not dropped & reading, "a slot of the disk was given away while somebody reads it"
        self.on_disk -= dropped
        self.disk_evicted += len(dropped)

    def hear(
        self, answers: list[Answer], *, abandoned: Iterable[BlockName] = (), fresh: Iterable[BlockName] = ()
    ) -> None:
        """Answers come in prefix order, say the truth, and end for a reason only.

        abandoned: names that nobody writes any more. fresh: sealed in this very call.
        """
        assert len({(answer.session, answer.call) for answer in answers}) == len(answers), "answered twice in one call"
        for answer in answers:
            wait = self.waits[answer.session, answer.call]
            for lease in answer.leases:
                self.leased(answer.session, wait, lease)
        self.follow()
        for answer in answers:
            wait = self.waits[answer.session, answer.call]
            if not answer.done:
                assert answer.leases, "an answer that says nothing"
                assert wait.names
                continue
            del self.waits[answer.session, answer.call]
            if wait.names and self.now < wait.deadline and wait.names[0] not in abandoned:
                self.is_missing(wait, set(fresh))

    def leased(self, session: SessionId, wait: Wait, lease: Lease) -> None:
        name = wait.names.pop(0)
        block = self.held[name]
        assert block.ref == lease.ref
        assert (self.arena[lease.slot], lease.checksum) == (name, checksum(name)), "a wrong block was served"
        block.leases[session] += 1
        self.leased_by_lookups += wait.counted
        asks_again = self.admit is Admit.TWICE and self.attached and not wait.handoff
        if asks_again and not block.short and block.ref.slot not in self.pinned:
            self.pending |= {name} - self.on_disk
            self.seen.discard(name)

    def is_missing(self, wait: Wait, fresh: set[BlockName]) -> None:
        """It could not be had: it is nowhere, or there is no room to bring it."""
        name = wait.names[0]
        assert name not in self.held, "told missing what is held"
        written = {b.name for s in self.sessions.values() for b in s.writing if s.live and s.incarnation is not None}
        pushed = {b.name for s in self.sessions.values() for b in s.writing if s.live and s.incarnation is None}
        assert not (wait.handoff and name in written | pushed), "told missing what is being written"
        if name in self.on_disk and name not in written | pushed:
            assert not self.catalog.snapshot().free, "there was room to promote it"
            assert self.evictable() <= fresh, "there could have been room to promote it"

    def allocate_for(self, owner: SessionId, wanted: list[BlockName], *, short: bool, hold: bool) -> None:
        there = set(wanted) & self.held.keys()
        grants = self.catalog.allocate(owner, wanted, last_is_short=short, hold=hold, now=self.now)
        for position, (name, grant) in enumerate(zip(wanted, grants, strict=True)):
            if name in there:
                assert isinstance(grant, Held)
                assert grant.ref == self.held[name].ref
                self.held[name].leases[owner] += 1  # for the time of the call, and longer with hold
            elif isinstance(grant, Write):
                self.granted(grant)
                is_short = short and position == len(wanted) - 1
                self.sessions[owner].writing.append(Block(name, grant.ref, is_short, hold))
        self.check_evicted_before(grants)
        if not hold:
            for name in there:
                self.held[name].leases[owner] -= wanted.count(name)
        self.follow()

    def check_evicted_before(self, grants: Sequence[object]) -> None:
        """What was granted may be a slot that was evicted for it: that was right if nobody reads it."""
        slots = {grant.slot for grant in grants if isinstance(grant, Write)}
        for name, block in self.held.items():
            if block.ref.slot in slots:
                assert name in self.evictable(), "a block was evicted that the call itself names"

    def do_seal(self, owner: SessionId, refs: list[SlotRef], blocks: dict[int, Block]) -> None:
        checksums = [checksum(blocks[i].name) if i in blocks else 1 for i in range(len(refs))]
        sealed, answers = self.catalog.seal(owner, refs, checksums, now=self.now)
        assert [index for index, good in enumerate(sealed) if good] == sorted(blocks)
        for index in sorted(blocks):
            block = blocks[index]
            self.sessions[owner].writing.remove(block)
            block.leases[owner] += block.hold
            self.sealed(block)
        self.hear(answers, fresh=[block.name for block in blocks.values()])

    def some_refs(self, data: st.DataObject, owner: SessionId) -> tuple[list[SlotRef], dict[int, Block]]:
        """References, good, others' and stale; and, by position, the blocks that ``owner`` may seal with them."""
        everyones = [block.ref for session in self.sessions.values() for block in session.writing]
        refs = data.draw(st.lists(st.sampled_from(everyones + self.old_refs), max_size=6, unique=True))
        mine = {block.ref: block for block in self.sessions[owner].writing}
        return refs, {index: mine[ref] for index, ref in enumerate(refs) if ref in mine}

    def ask(self, owner: SessionId, wanted: list[BlockName], wait_s: float, *, handoff: bool, elsewhere: bool) -> None:
        self.calls += 1
        counted = not handoff and self.sessions[owner].incarnation is not None
        self.asked += len(wanted) if counted else 0
        self.waits[owner, self.calls] = Wait(list(wanted), self.now + wait_s, handoff, counted)
        answers = self.catalog.acquire(
            owner,
            self.calls,
            wanted,
            deadline=self.now + wait_s,
            now=self.now,
            handoff=handoff,
            source=PEER if elsewhere else None,
        )
        self.hear(answers)

    def ended(self, name: SessionId, *, dead: bool) -> list[BlockName]:
        """What nobody waits for any more."""
        session = self.sessions[name]
        abandoned = [block.name for block in session.writing] if session.live else []
        session.live = False
        self.waits = {key: wait for key, wait in self.waits.items() if key[0] != name}
        if dead or not (session.writing or any(block.leases[name] for block in self.held.values())):
            self.old_refs += [block.ref for block in session.writing]
            for block in self.held.values():
                del block.leases[name]
            del self.sessions[name]
        return abandoned

    def begin_fetch(self, move: Fetch) -> None:
        assert move.peer == PEER
        assert len(set(move.names)) == len(move.names) == len(move.targets)
        assert not set(move.names) & self.held.keys()
        blocks = []
        for name, target in zip(move.names, move.targets, strict=True):
            self.granted(target)
            blocks.append(Block(name, target, short=False))
        self.sessions[move.session] = Session(f"fetch from {PEER.store}", None, writing=blocks)
        self.fetched[move.session] = 0

    def go_on(self, move: Move, *, good: bool) -> None:
        match move:
            case Demote():
                self.demoted(move, done=good)
            case Promote():
                self.promoted(move, readable=good)
            case Drop():
                self.dropped(move)
            case Fetch():
                self.fetch_on(move, good=good)

    def demoted(self, move: Demote, *, done: bool) -> None:
        assert self.arena[move.source.slot] == move.name, "a block was given away while it was written behind"
        self.moves.remove(move)
        if done:
            self.file[move.target.slot] = move.name
        self.catalog.demoted(move, done=done, now=self.now)
        block = self.held.get(move.name)
        still = block is not None and block.ref == move.source
        if move not in self.orphans:
            self.pending.discard(move.name)
            self.on_disk |= {move.name} if done else set()
        elif still and not done:
            self.pending.discard(move.name)
        self.forget(move)
        self.follow()

    def dropped(self, move: Drop) -> None:
        """It goes, unless it was leased or is being written behind by now, or is another block by now."""
        self.moves.remove(move)
        block = self.held.get(move.name)
        goes = block is not None and block.ref == move.source and move.name in self.evictable()
        self.catalog.dropped(move)
        self.follow()
        assert not (goes and move.name in self.held), "what nobody leases was not dropped"

    def forget(self, move: Move) -> None:
        self.orphans = [other for other in self.orphans if other is not move]

    def promoted(self, move: Promote, *, readable: bool) -> None:
        self.moves.remove(move)
        orphan = move in self.orphans
        intact = readable and self.file.get(move.source.slot) == move.name
        assert orphan or self.file.get(move.source.slot) in (move.name, TORN), "the file has another block there"
        assert checksum(move.name) == move.checksum
        if not intact and not orphan:
            self.on_disk.discard(move.name)
            self.torn += 1
        self.forget(move)
        if intact:
            self.sealed(Block(move.name, move.target, short=False))
        answers = self.catalog.promoted(move, done=intact, now=self.now)
        self.hear(answers, abandoned=() if intact else [move.name], fresh=[move.name] if intact else ())

    def fetch_on(self, move: Fetch, *, good: bool) -> None:
        """The next block comes, or it ends early; after the last one it ends."""
        come = self.fetched[move.session]
        if good and come < len(move.names):
            self.fetched[move.session] += 1
            block = self.sessions[move.session].writing[0]
            assert block.name == move.names[come]
            self.do_seal(move.session, [block.ref], {0: block})
            return
        self.moves.remove(move)
        abandoned = self.ended(move.session, dead=True)
        del self.fetched[move.session]
        self.hear(self.catalog.end(move.session, dead=True), abandoned=abandoned)

    def scan(self) -> list[DiskEntry]:
        """What headers say; a torn block may have an intact one."""
        return [DiskEntry(slot, name, checksum(name), 4) for slot, name in self.file.items() if isinstance(name, bytes)]
