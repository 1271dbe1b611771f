"""Any sequence of events against a model of dictionaries, with the conservation laws checked at each step.

The model knows who writes, holds, leases and waits. It predicts every answer; only which of
the evictable blocks was evicted it takes from the catalog, after checking that it might be.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kvstore.catalog import Catalog
from kvstore.names import BlockName
from kvstore.vocabulary import Answer, Drop, Held, Lease, Refused, SessionId, SlotRef, Write, Writing
from tests.kvstore.builders import IDENTITY, LAYOUT, names

WORKERS = ("w0", "w1", "w2")


@dataclass
class Block:
    name: BlockName
    ref: SlotRef
    short: bool
    hold: bool = False
    checksum: int = 0
    leases: Counter[SessionId] = field(default_factory=Counter)

    @property
    def evictable(self) -> bool:
        return not +self.leases


@dataclass
class Session:
    worker: str
    incarnation: int
    live: bool = True
    writing: list[Block] = field(default_factory=list)


@dataclass
class Wait:
    session: SessionId
    call: int
    names: list[BlockName]
    deadline: float


class CatalogMachine(RuleBasedStateMachine):
    @initialize(slots=st.integers(1, 12), marks=st.sampled_from([(0.0, 0.0), (0.25, 0.5), (0.1, 1.0)]), data=st.data())
    def open(self, slots: int, marks: tuple[float, float], data: st.DataObject) -> None:
        self.total = slots
        self.low, self.high = int(marks[0] * slots), -int(-marks[1] * slots // 1)
        self.catalog = Catalog(low_watermark=marks[0], high_watermark=marks[1])
        self.catalog.adopt(IDENTITY, LAYOUT, slots)
        self.sessions: dict[SessionId, Session] = {}
        self.held: dict[BlockName, Block] = {}
        self.waits: list[Wait] = []
        self.known: set[BlockName] = set()  # what a conductor that only hears changes believes
        self.old_refs: list[SlotRef] = [SlotRef(0, 0), SlotRef(99, 1)]
        self.now = 0.0
        self.calls = 0
        self.granted = 0  # slots, since drops were told
        self.reclaiming = False
        self.drops: list[Drop] = []

    # What the model knows

    @property
    def live(self) -> list[SessionId]:
        return [name for name, session in self.sessions.items() if session.live]

    def writing(self, *, live: bool) -> dict[BlockName, Block]:
        chosen = [session for session in self.sessions.values() if session.live or not live]
        return {block.name: block for session in chosen for block in session.writing}

    @property
    def half_written(self) -> int:
        return sum(len(session.writing) for session in self.sessions.values())

    @property
    def free(self) -> int:
        return self.total - len(self.held) - self.half_written

    def drop_short(self) -> None:
        for block in [block for block in self.held.values() if block.short and block.evictable]:
            del self.held[block.name]

    def advance(self, wait: Wait) -> Answer | None:
        """What a call that waits or is new gets now; None: nothing yet."""
        leases = []
        while wait.names and (block := self.held.get(wait.names[0])) is not None:
            block.leases[wait.session] += 1
            leases.append((block.ref, block.checksum))
            wait.names.pop(0)
        waits = bool(wait.names) and self.now < wait.deadline and wait.names[0] in self.writing(live=True)
        if waits and wait not in self.waits:
            self.waits.append(wait)
        elif not waits and wait in self.waits:
            self.waits.remove(wait)
        if waits and not leases:
            return None
        return self.answer(wait, leases, done=not waits)

    @staticmethod
    def answer(wait: Wait, leases: list[tuple[SlotRef, int]], *, done: bool) -> Answer:
        return Answer(wait.session, wait.call, tuple(Lease(r.slot, r.generation, c) for r, c in leases), done)

    def woken(self, names_gone: Iterable[BlockName]) -> list[Answer]:
        """The last answers of those who wait for names that nobody is writing any more."""
        gone = set(names_gone)
        told = [wait for wait in self.waits if wait.names[0] in gone]
        self.waits = [wait for wait in self.waits if wait not in told]
        return [self.answer(wait, [], done=True) for wait in told]

    def same(self, answers: list[Answer], expected: Iterable[Answer | None]) -> None:
        def order(answer: Answer) -> tuple[str, int]:
            return answer.session, answer.call

        assert sorted(answers, key=order) == sorted((a for a in expected if a is not None), key=order)

    def owner(self, data: st.DataObject) -> SessionId:
        return data.draw(st.sampled_from(self.live))

    # What happens

    @rule(worker=st.sampled_from(WORKERS), same_process=st.booleans())
    def hello(self, worker: str, same_process: bool) -> None:
        self.calls += 1
        name = SessionId(f"{worker}/{self.calls}")
        older = {known: session for known, session in self.sessions.items() if session.worker == worker}
        incarnation = max((session.incarnation for session in older.values()), default=1) + (not same_process)
        expected = []
        for known, session in older.items():
            expected += self.ended(known, dead=session.incarnation == incarnation)
        answers = self.catalog.hello(name, worker=worker, incarnation=incarnation, identity=IDENTITY)
        self.sessions[name] = Session(worker, incarnation)
        self.same(answers, expected)

    @precondition(lambda self: self.live)
    @rule(
        data=st.data(),
        path=st.text("ab", min_size=1, max_size=5),
        start=st.integers(0, 3),
        short=st.booleans(),
        hold=st.booleans(),
    )
    def allocate(self, data: st.DataObject, path: str, start: int, short: bool, hold: bool) -> None:
        owner = self.owner(data)
        wanted = names(path + "~" * short)[start:]
        being_written = self.writing(live=True)
        there = [self.held[name] for name in wanted if name in self.held]
        evictable = {block.name for block in self.held.values() if block.evictable} - {b.name for b in there}
        free, room = self.free, self.free + len(evictable)
        answers = self.catalog.allocate(owner, wanted, last_is_short=short, hold=hold, now=self.now)
        granted = 0
        for position, (name, answer) in enumerate(zip(wanted, answers, strict=True)):
            if name in self.held:
                assert answer == Held(self.held[name].ref.slot, self.held[name].ref.generation)
                self.held[name].leases[owner] += hold
            elif name in being_written:
                assert answer == Writing()
            elif granted < room:
                assert isinstance(answer, Write)
                last = position == len(wanted) - 1
                self.sessions[owner].writing.append(Block(name, answer.ref, short and last, hold))
                granted += 1
            else:
                assert answer == Refused()
        self.granted += granted
        self.evicted(evictable, needed=max(0, granted - free))

    def evicted(self, evictable: set[BlockName], *, needed: int) -> None:
        """Take over from the catalog what it evicted, once that is seen to be its right."""
        gone = {block.name for block in self.held.values()} - set(self.catalog.held_names())
        gone = {name for name in gone if not self.held[name].short}
        assert gone <= evictable
        assert len(gone) == needed
        for name in gone:
            self.old_refs.append(self.held.pop(name).ref)

    @rule()
    def moves(self) -> None:
        """Between the watermarks it is told what should go ahead of need: two blocks for each slot granted."""
        due, self.granted = 2 * self.granted, 0
        evictable = {block.name: block.ref for block in self.held.values() if block.evictable}
        self.reclaiming = self.reclaiming or self.free < self.low
        wanted = max(0, min(due, self.high - self.free)) if self.reclaiming else 0
        drops = [move for move in self.catalog.moves(now=self.now) if isinstance(move, Drop)]
        assert len(drops) == len({drop.name for drop in drops}) == min(wanted, len(evictable))
        assert all(evictable[drop.name] == drop.source for drop in drops), "told to drop what is leased or gone"
        if self.reclaiming and due:
            self.reclaiming = len(drops) == due < self.high - self.free
        self.drops += drops

    @precondition(lambda self: self.drops)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """Carried out at whatever time: a block that was leased meanwhile stays, one that is gone is no matter."""
        drop = data.draw(st.sampled_from(self.drops))
        self.drops.remove(drop)
        block = self.held.get(drop.name)
        if block is not None and block.ref == drop.source and block.evictable:
            self.old_refs.append(self.held.pop(drop.name).ref)
        self.catalog.dropped(drop)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def seal(self, data: st.DataObject) -> None:
        owner = self.owner(data)
        refs, blocks = self.some_refs(data, owner)
        sealed, answers = self.catalog.seal(owner, refs, [ref.slot + 50 for ref in refs], now=self.now)
        assert [index for index, good in enumerate(sealed) if good] == sorted(blocks)
        for index in sorted(blocks):
            block = blocks[index]
            self.sessions[owner].writing.remove(block)
            block.checksum = block.ref.slot + 50
            block.leases[owner] += block.hold
            assert block.name not in self.held, "a name was sealed twice"
            self.held[block.name] = block
        done = {block.name for block in blocks.values()}
        waiting = [wait for wait in self.waits if wait.names[0] in done]
        self.same(answers, [self.advance(wait) for wait in waiting])
        self.drop_short()

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        owner = self.owner(data)
        refs, blocks = self.some_refs(data, owner)
        answers = self.catalog.discard(owner, refs)
        for block in blocks.values():
            self.sessions[owner].writing.remove(block)
            self.old_refs.append(block.ref)
        self.same(answers, self.woken(block.name for block in blocks.values()))

    def some_refs(self, data: st.DataObject, owner: SessionId) -> tuple[list[SlotRef], dict[int, Block]]:
        """References, good, others' and stale; and, by position, the blocks that ``owner`` may seal with them."""
        everyones = [block.ref for session in self.sessions.values() for block in session.writing]
        choice = st.lists(st.sampled_from(everyones + self.old_refs), max_size=6, unique=True)
        refs = data.draw(choice)
        mine = {block.ref: block for block in self.sessions[owner].writing}
        return refs, {index: mine[ref] for index, ref in enumerate(refs) if ref in mine}

    @precondition(lambda self: self.live)
    @rule(
        data=st.data(),
        path=st.text("ab", max_size=5),
        start=st.integers(0, 2),
        short=st.booleans(),
        wait_s=st.sampled_from([0.0, 1.0, 5.0]),
    )
    def acquire(self, data: st.DataObject, path: str, start: int, short: bool, wait_s: float) -> None:
        self.calls += 1
        wait = Wait(self.owner(data), self.calls, names(path + "~" * short)[start:], self.now + wait_s)
        wanted = list(wait.names)
        answers = self.catalog.acquire(
            wait.session, wait.call, wanted, deadline=wait.deadline, now=self.now, handoff=True
        )
        self.same(answers, [self.advance(wait)])

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        owner = self.owner(data)
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
        self.drop_short()

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), dead=st.booleans())
    def end(self, data: st.DataObject, dead: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.sessions)))
        answers = self.catalog.end(name, dead=dead)
        self.same(answers, self.ended(name, dead=dead))

    @precondition(lambda self: len(self.live) < len(self.sessions))
    @rule(data=st.data())
    def bury(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.sessions.keys() - set(self.live))))
        self.catalog.buried(name)
        self.ended(name, dead=True)

    def ended(self, name: SessionId, *, dead: bool) -> list[Answer]:
        session = self.sessions[name]
        abandoned = [block.name for block in session.writing] if session.live else []
        session.live = False
        self.waits = [wait for wait in self.waits if wait.session != name]
        idle = not session.writing and not any(block.leases[name] for block in self.held.values())
        if dead or idle:
            self.old_refs += [block.ref for block in session.writing]
            for block in self.held.values():
                del block.leases[name]
            del self.sessions[name]
            self.drop_short()
        return self.woken(abandoned)

    @rule(seconds=st.sampled_from([0.5, 2.0, 10.0]))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        due = [wait for wait in self.waits if wait.deadline <= self.now]
        self.waits = [wait for wait in self.waits if wait not in due]
        self.same(self.catalog.tick(now=self.now), [self.answer(wait, [], done=True) for wait in due])

    @rule()
    def reset(self) -> None:
        gone = [block for block in self.held.values() if block.evictable]
        assert self.catalog.reset() == len(gone)
        for block in gone:
            del self.held[block.name]
            self.old_refs.append(block.ref)

    @rule()
    def hear_changes(self) -> None:
        changes = self.catalog.changes()
        assert not self.known & set(changes.gained)
        assert self.known >= set(changes.lost)
        self.known = (self.known | set(changes.gained)) - set(changes.lost)
        assert self.known == set(self.catalog.held_names())

    # What always holds

    @invariant()
    def the_laws_hold_and_the_model_agrees(self) -> None:
        self.catalog.check()
        snapshot = self.catalog.snapshot()
        assert snapshot.free + snapshot.writing + snapshot.sealed == snapshot.total == self.total
        assert (snapshot.free, snapshot.writing, snapshot.sealed) == (self.free, self.half_written, len(self.held))
        assert snapshot.leases == sum(sum(block.leases.values()) for block in self.held.values())
        assert snapshot.waiting == len(self.waits)
        assert set(self.catalog.held_names()) == {name for name, block in self.held.items() if not block.short}
        assert self.catalog.next_deadline == min((wait.deadline for wait in self.waits), default=None)
        assert set(self.catalog.set_aside) == self.sessions.keys() - set(self.live)

    def teardown(self) -> None:
        """When everyone is gone, nothing is leased or half-written."""
        for name in list(self.sessions):
            self.catalog.end(name, dead=True)
        self.catalog.check()
        snapshot = self.catalog.snapshot()
        assert (snapshot.writing, snapshot.leases, snapshot.waiting) == (0, 0, 0)
        assert self.catalog.reset() == snapshot.sealed


CatalogMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50)
TestCatalogAgainstDictionaries = CatalogMachine.TestCase
