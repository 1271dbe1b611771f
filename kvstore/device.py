"""The table of a worker's device blocks: who uses which, what is cached, and where new ones lie.

Pure bookkeeping, run by the worker and by the simulator alike; the engine's pages are
elsewhere. A block is pinned (counted), cached (named and unpinned, evicted least recently
used first) or free: always ``pinned + cached + unused == total``.

Where new blocks lie matters: pages in a row need no gather when attention reads them. So a
sequence starts in the largest gap with room left behind it, and grows into that room; and
eviction, once it must begin, frees a few blocks more than asked, which mostly lie in a row
since a sequence's blocks are unpinned together. Gaps are found by scanning a byte mask with
numpy (16 us for 4,096 blocks), only when a run begins: no tree of intervals to keep right.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kvstore.eviction import LeastRecentlyUsed
from kvstore.names import BlockName

EVICT_AHEAD = 32
"""Eviction frees at least 1/32 of all blocks at a time: 3 % of the cache buys gaps to grow into."""


class DeviceBlocks:
    """``total`` blocks, numbered from 0, all unused at first."""

    def __init__(self, total: int) -> None:
        if total < 1:
            raise ValueError(f"a device needs at least one block, not {total}")
        self.total = total
        self._pins = [0] * total
        self._names: list[BlockName | None] = [None] * total
        self._held: dict[BlockName, int] = {}
        self._cached = LeastRecentlyUsed()
        # One byte per block: 1 where it is unused. The bytearray for single looks, the view of it for scans.
        self._unused = bytearray(b"\x01" * total)
        self._unused_view: NDArray[np.uint8] = np.frombuffer(self._unused, dtype=np.uint8)
        self._unused_count = total

    @property
    def free(self) -> int:
        """How many blocks ``take`` can give: unused and cached ones."""
        return self._unused_count + len(self._cached)

    @property
    def cached(self) -> int:
        """Named blocks that nobody pins."""
        return len(self._cached)

    @property
    def pinned(self) -> int:
        return self.total - self.free

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
        continue. Evicts the least recently used cached blocks when unused ones don't suffice.
        """
        if count > self.free:
            return None
        self._evict_for(count)
        blocks = [] if after is None else self._run_at(after + 1, count)
        self._use(blocks)
        if len(blocks) < count:
            rest = self._in_largest_gaps(count - len(blocks))
            self._use(rest)
            blocks += rest
        return blocks

    def pin(self, blocks: Sequence[int]) -> None:
        """One pin more on each; every one is pinned or cached."""
        for block in blocks:
            assert self._pins[block] or self._names[block] is not None, f"block {block} holds nothing to pin"
            if not self._pins[block]:
                self._cached.withdraw(block)
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
                if self._names[block] is None:
                    self._put_back(block)
                else:
                    self._cached.used(block)

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
        while (block := self._cached.victim()) is not None:
            self._evict(block)
        for block in self._held.values():
            self._names[block] = None
        self._held.clear()
        return forgotten

    def check(self) -> None:
        """Assert the conservation laws, counting everything anew."""
        assert sum(self._unused) == self._unused_count, "unused blocks are miscounted"
        assert all(pins >= 0 for pins in self._pins), "a block was unpinned too often"
        for block, (pins, name) in enumerate(zip(self._pins, self._names, strict=True)):
            assert name is None or self._held.get(name) == block, f"block {block} can't be found by its name"
            assert (block in self._cached) == (not pins and name is not None), f"block {block}: cached or not?"
            assert bool(self._unused[block]) == (not pins and name is None), f"block {block}: unused or not?"
        assert len(self._held) == sum(name is not None for name in self._names), "a name leads nowhere"
        assert self.pinned == sum(pins > 0 for pins in self._pins), "blocks were lost"

    def _evict_for(self, count: int) -> None:
        if self._unused_count >= count:
            return
        for _ in range(max(count - self._unused_count, self.total // EVICT_AHEAD)):
            victim = self._cached.victim()
            if victim is None:
                return
            self._evict(victim)

    def _evict(self, block: int) -> None:
        self._cached.withdraw(block)
        name = self._names[block]
        assert name is not None
        del self._held[name]
        self._names[block] = None
        self._put_back(block)

    def _put_back(self, block: int) -> None:
        self._unused[block] = 1
        self._unused_count += 1

    def _use(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            self._unused[block] = 0
            self._pins[block] = 1
        self._unused_count -= len(blocks)

    def _run_at(self, start: int, count: int) -> list[int]:
        """The unused blocks from ``start`` on, up to ``count``, as far as they lie in a row."""
        end = start
        while end < min(start + count, self.total) and self._unused[end]:
            end += 1
        return list(range(start, end))

    def _in_largest_gaps(self, count: int) -> list[int]:
        """``count`` unused blocks in as few runs as there can be, ascending."""
        # Where the mask changes, a gap begins or ends; they alternate.
        edges = np.flatnonzero(np.diff(self._unused_view, prepend=np.uint8(0), append=np.uint8(0)))
        starts, lengths = edges[::2], edges[1::2] - edges[::2]
        runs: list[tuple[int, int]] = []
        for gap in np.argsort(-lengths, kind="stable"):
            start, length = int(starts[gap]), int(lengths[gap])
            if length > count:
                start += self._room_for_the_left(start, length - count)
            runs.append((start, min(length, count)))
            count -= runs[-1][1]
            if not count:
                break
        return [block for start, length in sorted(runs) for block in range(start, start + length)]

    def _room_for_the_left(self, start: int, spare: int) -> int:
        """How much of a gap's spare room to leave to the sequence that ends where the gap begins: half."""
        return spare // 2 if start > 0 and self._pins[start - 1] else 0
