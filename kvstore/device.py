"""The table of a worker's device blocks: who uses which, what is cached, and where new ones lie.

Pure bookkeeping, run by the worker and by the simulator alike; the pages themselves are
the engine's. A block is pinned (counted), cached (named and unpinned) or unused: always
``pinned + cached + unused == total``. Cached blocks are given up least recently used first.

Theory of operation. Pages in a row need no gather when attention reads them, and rows do not
come by themselves: under plain LRU nearly every block of a sequence ends up alone, since what
was scattered once is evicted scattered. So new blocks are chosen a row at a time, the
row whose most recently used block was used longest ago, with room to grow behind it; growth
takes that room when its time comes. Measured over conversations that return (``docs/kvstore.md``):
2.4 to 2.9 rows in a sequence instead of 32 to 39, for 2 to 4 blocks in a hundred less found cached.

    _used_at   0: unused   1..clock: cached, when it was used last   PINNED: never to be chosen

A new row is found with a few passes of numpy over that array (40 us for 4,096 blocks), growth
mostly by one look. No intervals, trees or lists are kept that could disagree with it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kvstore.names import BlockName

PINNED = np.iinfo(np.int64).max

# 512 tokens of 64 a block. With 16, more rows break for want of old blocks than are saved by the room.
ROOM = 8
"""Blocks kept clear behind each sequence that may grow, where others can be had."""

ROOM_SHARE = 32
"""No more than total / 32 of them, so that a small device is not kept clear for a few."""


class DeviceBlocks:
    """``total`` blocks, numbered from 0, all unused at first."""

    def __init__(self, total: int) -> None:
        if total < 1:
            raise ValueError(f"a device needs at least one block, not {total}")
        self.total = total
        self.pinned = 0
        """Blocks that have a pin."""
        self._unused = total
        self._pins = [0] * total
        self._names: list[BlockName | None] = [None] * total
        self._held: dict[BlockName, int] = {}
        self._used_at: NDArray[np.int64] = np.zeros(total, dtype=np.int64)
        self._clock = 1
        self._tails: set[int] = set()  # last blocks of what was taken and still is pinned; they may grow
        self._room = min(ROOM, total // ROOM_SHARE)

    @property
    def free(self) -> int:
        """How many blocks ``take`` can give: unused and cached ones."""
        return self.total - self.pinned

    @property
    def cached(self) -> int:
        """Named blocks that nobody pins."""
        return self.free - self._unused

    def match(self, names: Sequence[BlockName]) -> list[int]:
        """The blocks of the longest held prefix of ``names``. Pins nothing and counts as no use."""
        blocks = []
        for name in names:
            block = self._held.get(name)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def take(self, count: int, *, after: int | None = None) -> list[int] | None:
        """``count`` unnamed blocks, pinned once each; None, and nothing has changed, where there are too few.

        In a row where possible, first of all right behind ``after``, the block that they
        continue. What is cached there is forgotten: mostly the least recently used, but for
        the sake of a row any of the older half; more where nothing else makes a row.
        """
        if count > self.free:
            return None
        blocks: list[int] = []
        if after is not None:
            blocks = self._row_behind(after, count)
            self._use(blocks)
            self._tails.discard(after)
        if len(blocks) < count:
            rest = self._place(count - len(blocks))
            self._use(rest)
            blocks += rest
        if blocks:
            self._tails.add(blocks[-1])
        return blocks

    def pin(self, blocks: Sequence[int]) -> None:
        """One pin more on each; every one is pinned or cached."""
        for block in blocks:
            assert self._pins[block] or self._names[block] is not None, f"block {block} holds nothing to pin"
            if not self._pins[block]:
                self.pinned += 1
                self._used_at[block] = PINNED
            self._pins[block] += 1

    def unpin(self, blocks: Sequence[int]) -> None:
        """One pin less on each. At 0 a named block stays cached, an unnamed one is unused.

        blocks: of one sequence, root first. The leaf counts as used first and the root
        last, so that eviction drops tails before heads.
        """
        for block in reversed(blocks):
            assert self._pins[block], f"block {block} is not pinned"
            self._pins[block] -= 1
            if not self._pins[block]:
                self.pinned -= 1
                self._tails.discard(block)
                if self._names[block] is None:
                    self._unused += 1
                    self._used_at[block] = 0
                else:
                    self._clock += 1
                    self._used_at[block] = self._clock

    def name(self, block: int, name: BlockName) -> bool:
        """The content of a pinned block is complete. False where another block has this name: the first wins."""
        assert self._pins[block], f"block {block} is not pinned"
        assert self._names[block] in (None, name), f"block {block} has another name already"
        if self._held.setdefault(name, block) != block:
            return False
        self._names[block] = name
        return True

    def forget(self) -> int:
        """Forget every name: cached blocks are unused then, pinned ones will be. Returns how many names there were."""
        forgotten = len(self._held)
        for block in list(self._held.values()):
            self._forget(block)
        return forgotten

    def check(self) -> None:
        """Assert the conservation laws, counting everything anew."""
        for block, (pins, name) in enumerate(zip(self._pins, self._names, strict=True)):
            assert pins >= 0, f"block {block} was unpinned too often"
            assert name is None or self._held.get(name) == block, f"block {block} can't be found by its name"
            used_at = int(self._used_at[block])
            assert (used_at == PINNED) == (pins > 0), f"block {block}: pinned or not?"
            assert (used_at == 0) == (not pins and name is None), f"block {block}: unused or not?"
        assert len(self._held) == sum(name is not None for name in self._names), "a name leads nowhere"
        assert self.pinned == sum(pins > 0 for pins in self._pins), "pinned blocks are miscounted"
        assert self._unused == np.count_nonzero(self._used_at == 0), "unused blocks are miscounted"
        cached = self._used_at[(self._used_at > 0) & (self._used_at < PINNED)]
        assert len(cached) == self.cached == len(np.unique(cached)), "two blocks were used at one time"
        assert all(self._pins[tail] for tail in self._tails), "a sequence that is gone may grow"

    def _use(self, blocks: Sequence[int]) -> None:
        """Pin blocks that nobody pins, whatever is cached in them."""
        for block in blocks:
            self._forget(block)
            self._unused -= 1
            self._pins[block] = 1
            self._used_at[block] = PINNED
        self.pinned += len(blocks)

    def _forget(self, block: int) -> None:
        name = self._names[block]
        if name is not None:
            del self._held[name]
            self._names[block] = None
            if not self._pins[block]:
                self._unused += 1
                self._used_at[block] = 0

    # Where new blocks lie

    def _row_behind(self, after: int, count: int) -> list[int]:
        """The row right behind ``after``, up to ``count`` blocks, as far as it is unused or old."""
        behind = self._used_at[after + 1 : after + 1 + count].tolist()
        if count == 1:
            return [after + 1] if behind and self._may_go(behind[0]) else []
        length, old = 0, None
        for used_at in behind:
            if used_at == PINNED:
                break
            if used_at:
                old = self._old() if old is None else old
                if used_at > old:
                    break
            length += 1
        return list(range(after + 1, after + 1 + length))

    def _may_go(self, used_at: int) -> bool:
        """Whether a block that was used then is unused or old; for a single one quicker than ``_old``."""
        if not used_at or used_at == PINNED:
            return not used_at
        before = np.count_nonzero(self._used_at.view(np.uint64) - 1 < used_at - 1)  # unused ones count as never
        return int(before) < self.cached // 2

    def _place(self, count: int) -> list[int]:
        """Blocks for a new row, in ascending order: one row, or as few as there can be."""
        guarded = self._guarded()
        start = self._in_widest_gap(guarded, count)
        if start is not None:
            return list(range(start, start + count))
        old = self._old()
        start = _cheapest_row(guarded, count + self._room, at_most=old)
        if start is None:
            start = _cheapest_row(guarded, count, at_most=old)
        if start is None:
            # Where something must go in any case, a row may cost what is younger, too.
            start = _cheapest_row(self._used_at, count, at_most=self._clock if count > self._unused else old)
        if start is not None:
            return list(range(start, start + count))
        return self._in_pieces(count, old)

    def _in_pieces(self, count: int, old: int) -> list[int]:
        """Halves, quarters and so on, and in the end single blocks, strictly least recently used first."""
        blocks: list[int] = []
        cost = self._used_at.copy()
        size = count
        while count and (size := (size + 1) // 2) > 1:
            while size <= count and (start := _cheapest_row(cost, size, at_most=old)) is not None:
                blocks += range(start, start + size)
                cost[start : start + size] = PINNED
                count -= size
        if count:
            blocks += np.argpartition(cost, count - 1)[:count].tolist()
        return sorted(blocks)

    def _guarded(self) -> NDArray[np.int64]:
        """What taking each block would cost: when it was used last; room to grow counts as used just now."""
        cost = self._used_at.copy()
        if self._tails and self._room:
            tails = np.fromiter(self._tails, dtype=np.int64, count=len(self._tails))
            room = (tails[:, None] + np.arange(1, self._room + 1)).ravel()
            room = room[room < self.total]
            cost[room] = np.maximum(cost[room], self._clock)
        return cost

    def _old(self) -> int:
        """When the older half of the cached blocks was used, at the latest; 0 where there is no older half."""
        cached = self._used_at[(self._used_at > 0) & (self._used_at < PINNED)]
        half = len(cached) // 2
        if not half:
            return 0
        cached.partition(half - 1)  # it is a copy
        return int(cached[half - 1])

    def _in_widest_gap(self, cost: NDArray[np.int64], count: int) -> int | None:
        """On a device that is not full yet, rows start far apart: in the widest gap, half of what is left before it."""
        if self._unused < count + 2 * self._room:
            return None
        # Where "unused" changes, a gap begins or ends; they alternate.
        unused = np.zeros(len(cost) + 2, dtype=np.bool_)
        np.equal(cost, 0, out=unused[1:-1])
        edges = np.flatnonzero(unused[1:] != unused[:-1])
        if not len(edges):
            return None
        starts, widths = edges[::2], edges[1::2] - edges[::2]
        widest = int(widths.argmax())
        spare = int(widths[widest]) - count
        if spare < 2 * self._room:
            return None
        start = int(starts[widest])
        return start + spare // 2 if start else start


def _cheapest_row(cost: NDArray[np.int64], size: int, *, at_most: int) -> int | None:
    """Where the ``size`` blocks in a row start whose dearest block costs least; None where that is over ``at_most``."""
    if size > len(cost):
        return None
    dearest, span = cost, 1
    while 2 * span <= size:  # dearest[i] is the maximum of cost[i : i + span]
        dearest = np.maximum(dearest[:-span], dearest[span:])
        span *= 2
    if span < size:
        dearest = np.maximum(dearest[: span - size], dearest[size - span :])
    start = int(dearest.argmin())
    return start if dearest[start] <= at_most else None
