"""Both tiers, transfers between them and restarts, in any order, against dictionaries that stand for the bytes.

What may happen; ``tiers_model`` does the copies and checks every answer.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kvstore.eviction import POLICIES
from kvstore.names import BlockName
from kvstore.vocabulary import (
    Admit,
    Demote,
    Drop,
    Fetch,
    Promote,
    SessionId,
    SlotRef,
)
from tests.kvstore.builders import IDENTITY, names
from tests.kvstore.tiers_model import TORN, WORKERS, Session, TiersModel, checksum

CHATS = ("aaaaaa", "aabbbb", "bababa")
PATHS = st.builds(lambda chat, blocks: chat[:blocks], st.sampled_from(CHATS), st.integers(1, 6))
"""Few prefixes, so that what is asked for has often been there before."""
TURNS = st.tuples(PATHS, st.sampled_from([True, True, False]), st.booleans(), st.sampled_from([False, False, True]))
"""Of a conversation: its prompt, whether the SSD keeps up, whether a peer can be asked, whether a slot is torn."""
CALM = 12
"""Steps from one disaster to the next at least; else nothing ever comes about that it could hit."""


class TiersMachine(TiersModel):
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
        self.begin([])
        if disk_slots:
            self.attach([])

    def begin(self, old_refs: list[SlotRef]) -> None:
        self.start(old_refs)
        for worker in WORKERS:
            self.hello(worker, same_process=True)

    @property
    def calm(self) -> bool:
        return self.steps >= CALM

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

    @precondition(lambda self: self.mine)
    @rule(data=st.data(), turns=st.lists(TURNS, min_size=1, max_size=8))
    def conversations(self, data: st.DataObject, turns: list[tuple[str, bool, bool, bool]]) -> None:
        for path, written, elsewhere, damaged in turns:
            self.turn(data, path, written=written, elsewhere=elsewhere, damaged=damaged)

    def turn(self, data: st.DataObject, path: str, *, written: bool, elsewhere: bool, damaged: bool) -> None:
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
                    if move.name not in self.on_disk:
                        assert self.emptied, "read from a disk that does not have it"
                        self.orphans.append(move)  # asked for before all was dropped
                    self.granted(move.target)
                case Drop():
                    assert move.name in self.evictable(), "told to drop what somebody leases or copies"
                    assert self.held[move.name].ref == move.source
                case Fetch():
                    self.begin_fetch(move)
            self.moves.append(move)
        self.follow()
        assert len(self.promotes) <= self.at_a_time
        demotes = len(self.demotes)
        assert demotes <= min(self.at_a_time, max(1, self.total // 8))
        assert demotes < self.total, "the whole arena is pinned"

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

    @precondition(lambda self: self.file)
    @rule(data=st.data())
    def a_slot_is_torn(self, data: st.DataObject) -> None:
        self.file[data.draw(st.sampled_from(sorted(self.file)))] = TORN

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
        self.begin(self.old_refs[-5:])
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
        self.emptied = True
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
            leaving = disk.total - disk.free - disk.held - disk.writing
            assert leaving >= 0
            assert self.emptied or not leaving, "a slot of the disk is lost"
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


TiersMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
TestTiersAgainstDictionaries = TiersMachine.TestCase


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_thousands_of_steps_lose_nothing_and_serve_nothing_wrong() -> None:
    run_state_machine_as_test(TiersMachine, settings=settings(max_examples=400, stateful_step_count=100))
