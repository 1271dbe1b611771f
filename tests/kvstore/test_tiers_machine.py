"""Both tiers, transfers between them and restarts, in any order, against dictionaries that stand for the bytes.

The model keeps what the arena's and the file's slots hold, byte for byte as it were, and does the copies that
the catalog plans, at whatever time. So it sees a slot that is given away while somebody copies, a block that is
served under a wrong name, and a block that got lost. Which blocks were evicted and what there was room for it
takes from the catalog, after checking that it might be so.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kvstore.catalog import Catalog
from kvstore.eviction import POLICIES, policy
from kvstore.names import BlockName
from kvstore.vocabulary import (
    Admit,
    Answer,
    Demote,
    DiskEntry,
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
from tests.kvstore.builders import IDENTITY, LAYOUT, names

WORKERS = ("w0", "w1")
CHATS = ("aaaaaa", "aabbbb", "bababa")
PATHS = st.builds(lambda chat, blocks: chat[:blocks], st.sampled_from(CHATS), st.integers(1, 6))
"""Few prefixes, so that what is asked for has often been there before."""
CALM = 12
"""Steps from one disaster to the next at least; else nothing ever comes about that it could hit."""
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


class TiersMachine(RuleBasedStateMachine):
    @initialize(
        slots=st.sampled_from([4, 2, 6, 8, 3, 12, 1]),
        disk_slots=st.sampled_from([8, 4, 16, 2, 1, 0]),
        marks=st.sampled_from([(0.0, 0.0), (0.25, 0.5)]),
        eviction=st.sampled_from(sorted(POLICIES)),
        admit=st.sampled_from(Admit),
        at_a_time=st.integers(1, 3),
        eager=st.booleans(),
    )
    def open(
        self,
        slots: int,
        disk_slots: int,
        marks: tuple[float, float],
        eviction: str,
        admit: Admit,
        at_a_time: int,
        eager: bool,
    ) -> None:
        self.total, self.disk_total, self.marks, self.eviction = slots, disk_slots, marks, eviction
        self.admit, self.at_a_time, self.eager = admit, at_a_time, eager
        self.file: dict[int, BlockName | str] = {}  # slot -> whose bytes it has
        self.now = 0.0
        self.calls = 0
        self.steps = 0
        self.start([])
        if disk_slots:
            self.attach([])

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
        for worker in WORKERS:
            self.hello(worker, same_process=True)

    def attach(self, entries: list[DiskEntry]) -> None:
        self.catalog.attach_disk(self.disk_total, entries)
        self.attached = True
        self.lost_pending = self.torn = self.disk_evicted = 0
        self.on_disk = set(self.catalog.disk_names())
        for block in self.held.values():
            self.now_in_dram(block)

    @property
    def calm(self) -> bool:
        return self.steps >= CALM

    # What the model knows

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

    # Workers, and peers that push

    @precondition(lambda self: self.calm)
    @rule(worker=st.sampled_from(WORKERS), same_process=st.booleans())
    def hello(self, worker: str, same_process: bool) -> None:
        self.calls += 1
        name = SessionId(f"{worker}/{self.calls}")
        older = {
            known: session
            for known, session in self.sessions.items()
            if session.owner == worker and session.incarnation is not None
        }
        incarnation = max((s.incarnation or 1 for s in older.values()), default=1) + (not same_process)
        abandoned: list[BlockName] = []
        for known, session in older.items():
            abandoned += self.ended(known, dead=session.incarnation == incarnation)
        answers = self.catalog.hello(name, worker=worker, incarnation=incarnation, identity=IDENTITY)
        self.sessions[name] = Session(worker, incarnation)
        self.hear(answers, abandoned=abandoned)

    @rule()
    def a_peer_pushes(self) -> None:
        self.calls += 1
        name = SessionId(f"push/{self.calls}")
        self.catalog.join(name, owner="push from store-1")
        self.sessions[name] = Session("push from store-1", None)

    @precondition(lambda self: self.mine)
    @rule(
        data=st.data(),
        path=PATHS,
        start=st.sampled_from([0, 0, 0, 1, 2]),
        short=st.booleans(),
        hold=st.booleans(),
    )
    def allocate(self, data: st.DataObject, path: str, start: int, short: bool, hold: bool) -> None:
        owner = data.draw(st.sampled_from(self.mine))
        self.allocate_for(owner, names(path + "~" * short)[start:], short=short, hold=hold)

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

    @precondition(lambda self: self.mine)
    @rule(data=st.data(), path=PATHS, hold=st.booleans())
    def put(self, data: st.DataObject, path: str, hold: bool) -> None:
        """Nearly always what is granted is sealed."""
        self.allocate_for(data.draw(st.sampled_from(self.mine)), names(path), short=False, hold=hold)
        for owner in self.mine:
            blocks = dict(enumerate(self.sessions[owner].writing))
            self.do_seal(owner, [block.ref for block in blocks.values()], blocks)

    @precondition(lambda self: self.mine)
    @rule(data=st.data())
    def seal(self, data: st.DataObject) -> None:
        owner = data.draw(st.sampled_from(self.mine))
        refs, blocks = self.some_refs(data, owner)
        self.do_seal(owner, refs, blocks)

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

    @precondition(lambda self: self.mine)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        owner = data.draw(st.sampled_from(self.mine))
        refs, blocks = self.some_refs(data, owner)
        answers = self.catalog.discard(owner, refs)
        for block in blocks.values():
            self.sessions[owner].writing.remove(block)
            self.old_refs.append(block.ref)
        self.hear(answers, abandoned=[block.name for block in blocks.values()])

    def some_refs(self, data: st.DataObject, owner: SessionId) -> tuple[list[SlotRef], dict[int, Block]]:
        """References, good, others' and stale; and, by position, the blocks that ``owner`` may seal with them."""
        everyones = [block.ref for session in self.sessions.values() for block in session.writing]
        refs = data.draw(st.lists(st.sampled_from(everyones + self.old_refs), max_size=6, unique=True))
        mine = {block.ref: block for block in self.sessions[owner].writing}
        return refs, {index: mine[ref] for index, ref in enumerate(refs) if ref in mine}

    @precondition(lambda self: self.mine)
    @rule(
        data=st.data(),
        path=PATHS,
        start=st.sampled_from([0, 0, 0, 1, 2]),
        short=st.booleans(),
        wait_s=st.sampled_from([5.0, 50.0, 1.0, 0.0]),
        handoff=st.booleans(),
        elsewhere=st.booleans(),
    )
    def acquire(
        self, data: st.DataObject, path: str, start: int, short: bool, wait_s: float, handoff: bool, elsewhere: bool
    ) -> None:
        owner = data.draw(st.sampled_from(self.mine))
        wanted = names(path + "~" * short)[start:]
        self.ask(owner, wanted, wait_s, handoff=handoff, elsewhere=elsewhere)

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

    @precondition(lambda self: self.mine)
    @rule(
        data=st.data(),
        path=PATHS,
        written=st.booleans(),
        elsewhere=st.booleans(),
        damaged=st.sampled_from([False, False, True]),
    )
    def turn(self, data: st.DataObject, path: str, written: bool, elsewhere: bool, damaged: bool) -> None:
        """What a worker does with a prompt: look it up, let go of what it was given, write the rest."""
        owner = data.draw(st.sampled_from(self.mine))
        if damaged and self.file:
            self.a_slot_is_torn(data)
        self.ask(owner, names(path), 5.0, handoff=False, elsewhere=elsewhere)
        self.all_moves_end_well()
        leases = [(block.ref, block.leases) for block in self.held.values() if block.leases[owner]]
        self.catalog.release(owner, [ref for ref, mine in leases for _ in range(mine[owner])])
        for _, mine in leases:
            del mine[owner]
        self.follow()
        self.allocate_for(owner, names(path), short=False, hold=False)
        blocks = dict(enumerate(self.sessions[owner].writing))
        self.do_seal(owner, [block.ref for block in blocks.values()], blocks)
        if written:
            self.all_moves_end_well()

    @precondition(lambda self: self.mine)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        owner = data.draw(st.sampled_from(self.mine))
        everyones = [block.ref for block in self.held.values()]
        writing = {block.ref: block for block in self.sessions[owner].writing}
        refs = data.draw(st.lists(st.sampled_from([*everyones, *writing, *self.old_refs]), max_size=8))
        self.catalog.release(owner, refs)
        blocks = {block.ref: block for block in self.held.values()}
        for ref in refs:
            if ref in writing:
                writing[ref].hold = False
            elif ref in blocks and blocks[ref].leases[owner]:
                blocks[ref].leases[owner] -= 1
        self.follow()

    @precondition(lambda self: self.mine and self.calm)
    @rule(data=st.data(), dead=st.booleans())
    def end(self, data: st.DataObject, dead: bool) -> None:
        name = data.draw(st.sampled_from(self.mine))
        abandoned = self.ended(name, dead=dead)
        self.hear(self.catalog.end(name, dead=dead), abandoned=abandoned)

    @precondition(lambda self: len(self.live) < len(self.sessions))
    @rule(data=st.data())
    def bury(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.sessions.keys() - set(self.live))))
        self.catalog.buried(name)
        self.ended(name, dead=True)
        self.follow()

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

    # Moves

    @rule()
    def begin_moves(self) -> None:
        for move in self.catalog.moves(now=self.now):
            match move:
                case Demote():
                    block = self.held[move.name]
                    assert (block.ref, checksum(block.name)) == (move.source, move.checksum)
                    assert move.name in self.pending, "written behind though nobody asked for it"
                    busy = [m.target.slot for m in self.demotes if m not in self.orphans]
                    busy += [m.source.slot for m in self.promotes if m not in self.orphans]
                    assert move.target.slot not in busy, "a slot of the disk was given away while somebody copies"
                    self.file[move.target.slot] = TORN
                case Promote():
                    assert move.name in self.on_disk
                    self.granted(move.target)
                case Fetch():
                    self.begin_fetch(move)
            self.moves.append(move)
        self.follow()
        assert len(self.promotes) <= self.at_a_time
        demotes = len(self.demotes)
        assert demotes <= min(self.at_a_time, max(1, self.total // 8))
        assert demotes < self.total, "the whole arena is pinned"

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

    @precondition(lambda self: self.moves)
    @rule(data=st.data(), good=st.integers(0, 3))
    def a_move_goes_on(self, data: st.DataObject, good: int) -> None:
        move = data.draw(st.sampled_from(self.moves))
        self.go_on(move, good=bool(good))

    @rule()
    def all_moves_end_well(self) -> None:
        self.begin_moves()
        for move in list(self.moves):
            while move in self.moves:
                self.go_on(move, good=True)

    def go_on(self, move: Move, *, good: bool) -> None:
        match move:
            case Demote():
                self.demoted(move, done=good)
            case Promote():
                self.promoted(move, readable=good)
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

    # The disk

    @precondition(lambda self: self.file)
    @rule(data=st.data())
    def a_slot_is_torn(self, data: st.DataObject) -> None:
        self.file[data.draw(st.sampled_from(sorted(self.file)))] = TORN

    def scan(self) -> list[DiskEntry]:
        """What headers say; a torn block may have an intact one."""
        return [DiskEntry(slot, name, checksum(name), 4) for slot, name in self.file.items() if isinstance(name, bytes)]

    @precondition(lambda self: self.attached and self.calm)
    @rule()
    def the_disk_fails(self) -> None:
        self.steps = 0
        waiting = {wait.names[0] for wait in self.waits.values()}
        answers = self.catalog.detach_disk(now=self.now)
        self.attached = False
        self.orphans = [move for move in self.moves if not isinstance(move, Fetch)]
        self.on_disk, self.pending = set(), set()
        self.hear(answers, abandoned=waiting)

    @precondition(lambda self: self.disk_total and not self.attached and not self.moves)
    @rule()
    def the_disk_is_found_again(self) -> None:
        self.attach(self.scan())

    @precondition(lambda self: self.calm)
    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        """By SIGKILL, in the middle of everything; or in peace."""
        self.steps = 0
        before = set(self.on_disk)
        if clean:
            self.drain()
            before = set(self.on_disk)
            entries = self.catalog.disk_entries()
            assert {entry.name for entry in entries} == before
        else:
            intact = {name for name in self.file.values() if isinstance(name, bytes)}
            before &= intact
            entries = self.scan()
        attached = self.attached
        self.start(self.old_refs[-5:])
        if attached:
            self.attach(entries)
            assert self.on_disk >= before, "a block that was on the disk is not found again"

    def drain(self) -> None:
        """Everything that is under way ends well, and so does what follows from it."""
        while True:
            self.begin_moves()
            if not self.moves:
                break
            self.go_on(self.moves[0], good=True)
        disk = self.catalog.snapshot().disk
        assert disk is None or self.total == 1 or not disk.pending, "write-behind stopped half-way"

    # Time, and what others hear

    @rule(seconds=st.sampled_from([0.5, 2.0, 10.0]))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        due = {key for key, wait in self.waits.items() if wait.deadline <= self.now}
        answers = self.catalog.tick(now=self.now)
        assert {(answer.session, answer.call) for answer in answers} == due
        assert not any(answer.leases for answer in answers)
        self.hear(answers)

    @precondition(lambda self: self.calm)
    @rule()
    def reset(self) -> None:
        self.steps = 0
        gone = [block for block in self.held.values() if not block.leased]
        assert self.catalog.reset() == len(gone)
        for block in gone:
            del self.held[block.name]
        self.pending -= {block.name for block in gone}
        self.on_disk = set()
        self.orphans = [move for move in self.moves if not isinstance(move, Fetch)]
        self.file = dict.fromkeys(self.file, TORN)
        for block in self.held.values():
            if block.name not in self.pending:
                self.now_in_dram(block)
        self.follow()

    @rule()
    def hear_changes(self) -> None:
        changes = self.catalog.changes()
        assert not self.told & set(changes.gained)
        assert not self.told_ssd & set(changes.ssd_gained)
        assert self.told >= set(changes.lost)
        assert self.told_ssd >= set(changes.ssd_lost)
        self.told = (self.told | set(changes.gained)) - set(changes.lost)
        self.told_ssd = (self.told_ssd | set(changes.ssd_gained)) - set(changes.ssd_lost)
        assert self.told == set(self.catalog.held_names())
        assert self.told_ssd == set(self.catalog.disk_names())

    # What always holds

    @invariant()
    def the_laws_hold_and_the_model_agrees(self) -> None:
        self.steps += 1
        if self.eager:  # as the shell is
            self.begin_moves()
        self.catalog.check()
        snapshot = self.catalog.snapshot()
        assert snapshot.free + snapshot.writing + snapshot.sealed == snapshot.total == self.total
        assert snapshot.leases == sum(sum(block.leases.values()) for block in self.held.values())
        assert snapshot.waiting == len(self.waits)
        assert set(self.catalog.held_names()) == {name for name, block in self.held.items() if not block.short}
        assert self.catalog.next_deadline == min((wait.deadline for wait in self.waits.values()), default=None)
        assert set(self.catalog.set_aside) == self.sessions.keys() - set(self.live)
        hits = snapshot.hits
        assert (hits.asked, hits.dram + hits.ssd + hits.peer) == (self.asked, self.leased_by_lookups)
        for owner in snapshot.owners:
            if owner.owner in WORKERS:
                mine = [n for n, s in self.sessions.items() if s.owner == owner.owner and s.live is not owner.set_aside]
                assert owner.writing == sum(len(self.sessions[name].writing) for name in mine)
                assert owner.leases == sum(block.leases[name] for block in self.held.values() for name in mine)
        assert (snapshot.disk is not None) == self.attached
        assert set(self.catalog.disk_names()) == self.on_disk
        if snapshot.disk is not None:
            disk = snapshot.disk
            assert (disk.total, disk.held) == (self.disk_total, len(self.on_disk))
            assert 0 <= disk.total - disk.free - disk.held - disk.writing <= len(self.orphans)
            assert disk.pending == len(self.pending)
            assert (disk.oldest_pending is None) == (not self.pending)
            assert (disk.dropped_torn, disk.evicted) == (self.torn, self.disk_evicted)
            assert disk.lost_pending == self.lost_pending

    def teardown(self) -> None:
        """When all is done and everyone is gone, nothing is leased, pinned or half-written."""
        if not hasattr(self, "catalog"):
            return
        self.drain()
        for name in list(self.sessions):
            self.ended(name, dead=True)
            self.catalog.end(name, dead=True)
        self.follow()
        self.drain()
        self.catalog.check()
        snapshot = self.catalog.snapshot()
        assert (snapshot.writing, snapshot.leases, snapshot.waiting, snapshot.owners) == (0, 0, 0, ())
        assert self.catalog.reset() == snapshot.sealed
        snapshot = self.catalog.snapshot()
        assert snapshot.free == self.total
        assert snapshot.disk is None or snapshot.disk.free == self.disk_total


TiersMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
TestTiersAgainstDictionaries = TiersMachine.TestCase


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_thousands_of_steps_lose_nothing_and_serve_nothing_wrong() -> None:
    run_state_machine_as_test(TiersMachine, settings=settings(max_examples=400, stateful_step_count=100, deadline=None))
