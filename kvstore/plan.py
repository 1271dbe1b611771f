"""What lies where on one host, and which blocks move between its DRAM and its SSD.

``Plan`` turns occupancy, watermarks, leases and policies into moves: sealed blocks are
written behind (demote), so that making room just forgets a DRAM copy (drop); what somebody asks
for is read back (promote). All are told by ``moves``, carried out by the shell, and told back when
they have ended. A call that finds no slot free can't wait for that and drops on the spot. It knows no sessions.

    sealed in DRAM --moves--> Demote under way, source pinned --demoted--> on the SSD too
    wanted         --moves--> Promote under way, target being written --promoted--> sealed in DRAM
    next to go     --moves--> Drop, source as it was --dropped--> free; or leased meanwhile: it stays
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from kvstore.blocks import Block, Blocks
from kvstore.changes import NameChanges
from kvstore.digest import Digest, digest_of
from kvstore.disk import DiskBlocks
from kvstore.eviction import EvictionPolicy, Watermarks
from kvstore.names import BlockName
from kvstore.vocabulary import Changes, Demote, DiskEntry, DiskSnapshot, Drop, Fetch, Move, Promote, SlotRef
from kvstore.write_behind import WriteBehind

ATTACHED_AT_ONCE = 1024
"""Blocks of a disk that are taken over in one step: 2 to 5 ms, where a million would be as many seconds."""


class Plan:
    """Both tiers. demotes, promotes: how many of each may be under way at a time."""

    def __init__(
        self,
        policy: EvictionPolicy,
        disk_policy: EvictionPolicy,
        watermarks: Watermarks,
        behind: WriteBehind,
        *,
        demotes: int,
        promotes: int,
    ) -> None:
        self.dram = Blocks(policy)
        self.disk: DiskBlocks | None = None
        self.behind = behind
        self.evicted = 0
        self._disk_policy = disk_policy
        self._watermarks = watermarks
        self._demotes = demotes
        self._promotes = promotes
        self._reclaiming = False
        self._granted = 0  # slots, since drops were told
        self._stamp = 0
        self._disk_changes = NameChanges()
        self._wanted: deque[Promote] = deque()
        self._fetches: list[Fetch] = []
        # Under way, by their slot in DRAM, which nobody else can have meanwhile; each with the table of the disk
        # that it began with, as the tier may have been switched off since. A demotion with when it became pending.
        self._demoting: dict[SlotRef, tuple[DiskBlocks, float]] = {}
        self._promoting: dict[SlotRef, DiskBlocks] = {}

    # Room in DRAM

    def grant(self, block: Block) -> int | None:
        """A slot to write this block to, evicting for it if need be. None: everything is leased or half-written."""
        if not self.dram.slots.free and (victim := self.dram.victim()) is not None:
            self._evict(victim)
        slot = self.dram.grant(block)
        self._granted += slot is not None
        return slot

    def _drops(self) -> list[Drop]:
        """Ahead of need, at most two slots for each one granted since, so that no single call pays for a backlog."""
        slots = self.dram.slots
        due, self._granted = 2 * self._granted, 0
        if slots.free < self._watermarks.low_slots(slots.total):
            self._reclaiming = True
        if not self._reclaiming or not due:
            return []
        wanted = self._watermarks.high_slots(slots.total) - slots.free
        victims = self.dram.victims(max(0, min(due, wanted)))
        self._reclaiming = len(victims) == due < wanted
        return [Drop(self.dram[slot].name, self.dram.ref(slot)) for slot in victims]

    def dropped(self, move: Drop) -> None:
        """Forgotten from now on, unless it was leased or pinned since, or is gone already."""
        slots, source = self.dram.slots, move.source
        if slots.is_current(source.slot, source.generation) and not slots.leases_on(source.slot):
            self._evict(source.slot)

    def _evict(self, slot: int) -> None:
        """A block that is on the SSD loses a copy; one that is still to be written is lost."""
        lost = self.behind.lose(self.dram.drop(slot).name)
        if lost and self.disk is not None:
            self.disk.lost_pending += 1
        self.evicted += 1

    # The life of a block

    def seal(self, slot: int, checksum: int, *, now: float) -> Block:
        """It is held from now on; ``settle`` it once whoever is to have a lease on it has one."""
        block = self.dram.seal(slot, checksum)
        block.stamp = self._stamp  # until it is settled, as it is when its last lease ends
        if self.disk is not None and not block.short and block.name not in self.disk:
            self.behind.sealed(block.name, now=now)
        return block

    def settle(self, slots: Sequence[int], *, counted: bool = False) -> None:
        """These sealed blocks were used, and so was all before them: leaf first, root last, in both tiers.

        slots: of one prefix, in order. counted: they were read, not just touched.
        """
        dram, disk, stamp = self.dram, self.disk, self._stamp
        for slot in dram.index.leaf_first(slots):
            stamp += 1
            block = dram.settle(slot, stamp, counted=counted)
            if disk is not None and block is not None:
                disk.used(block.name, stamp, block.depth, counted)
        self._stamp = stamp

    def looked_up(self, slots: Iterable[int], *, now: float) -> None:
        """Somebody has looked for these blocks and leases them."""
        if self.disk is None or not self.behind.wants_lookups:
            return
        for slot in slots:
            block = self.dram[slot]
            if not block.short and slot not in self.dram.pinned and block.name not in self.disk:
                self.behind.looked_up(block.name, now=now)

    def reset(self) -> int:
        """Drop everything that nobody leases; returns how many blocks of DRAM that were."""
        idle = self.dram.idle()
        for slot in idle:
            self.behind.lose(self.dram.drop(slot).name)
        if self.disk is not None:
            self.disk.reset()
            self._write_behind_what_is_held()
        return len(idle)

    # The disk

    def attach(self, slots_total: int, block_tokens: int, entries: Iterable[DiskEntry]) -> Iterator[int]:
        """Some blocks a step; nobody knows of the disk before the last, and what is used meanwhile is used later."""
        assert self.disk is None, "the SSD tier is attached already"
        assert not {**self._demoting, **self._promoting}, "moves of a former disk are under way, perhaps in this file"
        first, self._stamp = self._stamp + 1, self._stamp + 1 + slots_total
        disk = DiskBlocks(slots_total, block_tokens, self._disk_policy, NameChanges())
        left = iter(entries)
        while some := list(islice(left, ATTACHED_AT_ONCE)):
            first = disk.find(some, first)
            yield len(some)
        self._disk_changes.absorb(disk.changes)
        disk.changes, self.disk = self._disk_changes, disk
        self._write_behind_what_is_held()

    def detach(self) -> list[Promote]:
        """There is no disk from now on. Returns the promotions that have not begun; the others end as they end."""
        if self.disk is None:
            return []
        self.disk.reset()
        self.disk = None
        self.behind.clear()
        wanted = list(self._wanted)
        self._wanted.clear()
        return wanted

    def _write_behind_what_is_held(self) -> None:
        assert self.disk is not None
        for name, slot in self.dram.index.items():
            block = self.dram[slot]
            if not block.short and slot not in self.dram.pinned and name not in self.disk:
                self.behind.sealed(name, now=block.granted_at)

    # Moves

    def promote(self, name: BlockName, target: SlotRef) -> None:
        """Read it back into ``target``; after what was asked for before."""
        assert self.disk is not None
        source, checksum = self.disk.read(name)
        self._wanted.append(Promote(name, source, target, checksum))

    def fetch(self, fetch: Fetch) -> None:
        self._fetches.append(fetch)

    def moves(self) -> list[Move]:
        """What is to begin now: what somebody waits for first."""
        moves: list[Move] = [*self._fetches]
        self._fetches.clear()
        if self.disk is not None:
            moves += self._to_and_from(self.disk)
        return moves + self._drops()  # last: what is pinned by now is spared

    def _to_and_from(self, disk: DiskBlocks) -> Iterator[Move]:
        while self._wanted and len(self._promoting) < self._promotes:
            promote = self._wanted.popleft()
            self._promoting[promote.target] = disk
            yield promote
        while len(self._demoting) < self._most_demotes and (demote := self._next_demote(disk)) is not None:
            yield demote

    def demoted(self, move: Demote, *, done: bool) -> None:
        disk, since = self._demoting.pop(move.source)
        slot = move.source.slot
        block = self.dram[slot]
        here = disk is self.disk
        kept = here and disk.written(move.target.slot, done=done, stamp=block.stamp, depth=block.depth)
        self.dram.unpin(slot)
        emptied = here and done and not kept
        if emptied and self.dram.index.get(block.name) == slot:
            self.behind.add(block.name, now=since)

    def promoted(self, move: Promote, *, done: bool) -> None:
        """It was read and is intact, or is not; what becomes of the target is the caller's to say."""
        disk = self._promoting.pop(move.target)
        if disk is self.disk:
            disk.read_ended(move.source.slot, intact=done)

    @property
    def _most_demotes(self) -> int:
        """An eighth of the arena at most is pinned, and never all of it."""
        total = self.dram.slots.total
        return min(self._demotes, max(1, total // 8), total - 1)

    def _next_demote(self, disk: DiskBlocks) -> Demote | None:
        due = self.behind.take()
        if due is None:
            return None
        name, since = due
        slot = self.dram.index.get(name)
        assert slot is not None, "what is lost is not to be written any more"
        block = self.dram[slot]
        target = disk.grant(name, block.checksum)
        if target is None:
            self.behind.put_back(name, since)
            return None
        source = self.dram.ref(slot)
        self.dram.pin(slot)
        self._demoting[source] = (disk, since)
        return Demote(name, source, target, block.checksum, disk.block_tokens)

    # What others want to know

    def changes(self) -> Changes:
        return Changes(*self.dram.changes.tell(), *self._disk_changes.tell())

    def digests(self) -> tuple[Digest, Digest]:
        """Of all names in DRAM, short blocks left out, and on the SSD."""
        return self.dram.changes.digest, self._disk_changes.digest

    def disk_snapshot(self) -> DiskSnapshot | None:
        if self.disk is None:
            return None
        slots = self.disk.slots
        under_way = ((ref, since) for ref, (disk, since) in self._demoting.items() if disk is self.disk)
        pending = [since for ref, since in under_way if self.dram.holds(ref.slot)]
        oldest = self.behind.oldest
        return DiskSnapshot(
            total=slots.total,
            free=slots.free,
            held=len(self.disk),
            writing=slots.writing,
            pending=len(self.behind) + len(pending),
            oldest_pending=min([*pending, *([] if oldest is None else [oldest])], default=None),
            evicted=self.disk.evicted,
            dropped_torn=self.disk.torn,
            lost_pending=self.disk.lost_pending,
        )

    def check(self) -> None:
        """Assert the conservation laws of both tiers, counting everything anew."""
        self.dram.check()
        self._disk_changes.check()
        on_disk = [] if self.disk is None else self.disk.names()
        assert self._disk_changes.digest == digest_of(on_disk), "the digest of the disk is not that of what it holds"
        assert {ref.slot for ref in self._demoting} == self.dram.pinned, "a block is pinned for nothing"
        assert all(self.dram.slots.is_current(ref.slot, ref.generation) for ref in self._demoting)
        pending = self.behind.names()
        assert all(self.dram.index.get(name) is not None for name in pending), "what is to be written is lost"
        if self.disk is None:
            assert not [*pending, *self._wanted], "there is no disk to write to or read from"
            return
        self.disk.check()
        assert not any(name in self.disk for name in pending), "what is on the disk is to be written again"
        writing = sum(disk is self.disk for disk, _ in self._demoting.values())
        assert writing == self.disk.slots.writing, "a slot of the disk is being written by nobody"
        reading = len(self._wanted) + sum(disk is self.disk for disk in self._promoting.values())
        assert reading == self.disk.slots.leases, "a slot of the disk is being read for nobody"
