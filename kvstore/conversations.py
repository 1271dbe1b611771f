"""Conversations that return, some often: the workload by which tables of device blocks are compared.

``PlainLru`` is what one would write first, and the yardstick for ``DeviceBlocks``.
"""

import random
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from kvstore.names import BlockName


class Table(Protocol):
    """What a batcher asks of the table of device blocks."""

    def match(self, names: Sequence[BlockName]) -> list[int]: ...
    def take(self, count: int, *, after: int | None = None) -> list[int] | None: ...
    def pin(self, blocks: Sequence[int]) -> None: ...
    def unpin(self, blocks: Sequence[int]) -> None: ...
    def name(self, block: int, name: BlockName) -> bool: ...


class PlainLru:
    """Strictly least recently used first, wherever the blocks lie."""

    def __init__(self, total: int) -> None:
        self._unused = list(range(total))[::-1]
        self._pins = [0] * total
        self._held: dict[BlockName, int] = {}
        self._names: dict[int, BlockName] = {}
        self._cached: OrderedDict[int, None] = OrderedDict()

    def match(self, names: Sequence[BlockName]) -> list[int]:
        blocks = []
        for name in names:
            if name not in self._held:
                break
            blocks.append(self._held[name])
        return blocks

    def take(self, count: int, *, after: int | None = None) -> list[int] | None:
        if count > len(self._unused) + len(self._cached):
            return None
        while len(self._unused) < count:
            block, _ = self._cached.popitem(last=False)
            del self._held[self._names.pop(block)]
            self._unused.append(block)
        blocks = sorted(self._unused.pop() for _ in range(count))
        self.pin(blocks)
        return blocks

    def pin(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            self._pins[block] += 1
            self._cached.pop(block, None)

    def unpin(self, blocks: Sequence[int]) -> None:
        for block in reversed(blocks):
            self._pins[block] -= 1
            if not self._pins[block] and block in self._names:
                self._cached[block] = None
            elif not self._pins[block]:
                self._unused.append(block)

    def name(self, block: int, name: BlockName) -> bool:
        if self._held.setdefault(name, block) == block:
            self._names[block] = name
        return self._held[name] == block


@dataclass(slots=True)
class _Turn:
    blocks: list[int]
    names: list[BlockName]
    left: int  # blocks that it will still grow by


@dataclass(frozen=True, slots=True)
class Outcome:
    """found: share of the prompts' blocks that were cached. rows: in which a sequence lay at its end, on average."""

    found: float
    rows: float


def rows(blocks: Sequence[int]) -> int:
    """In how many rows of ascending neighbours the blocks of a sequence lie."""
    return 1 + sum(later != earlier + 1 for earlier, later in pairwise(blocks))


def converse(table: Table, *, conversations: int, running: int, turns: int, chance: random.Random) -> Outcome:
    """Up to ``running`` sequences at a time; each prompt is its conversation so far and 2 to 20 blocks more.

    Conversations share three system prompts of 10 blocks and return the oftener the lower
    their number; answers are 0 to 12 blocks long. ``rows`` counts the later half of all turns.
    """
    fresh_names = (BlockName(b"%d" % number) for number in range(10**9))
    history = [[BlockName(b"system %d %d" % (talk % 3, i)) for i in range(10)] for talk in range(conversations)]
    live: dict[int, _Turn] = {}
    found = asked = 0
    rows_seen: list[int] = []
    while len(rows_seen) < turns:
        talk = min(int(chance.expovariate(3 / conversations)), conversations - 1)
        if talk not in live and len(live) < running:
            so_far = history[talk] if len(history[talk]) < 60 else history[talk][:10]
            prompt = so_far + [next(fresh_names) for _ in range(chance.randint(2, 20))]
            held = table.match(prompt)
            table.pin(held)
            taken = table.take(len(prompt) - len(held), after=held[-1] if held else None)
            if taken is None:
                table.unpin(held)
            else:
                found, asked = found + len(held), asked + len(prompt)
                live[talk] = _Turn(held + taken, prompt, chance.randint(0, 12))
        for talk, turn in list(live.items()):
            if turn.left and chance.random() < 0.5 and (grown := table.take(1, after=turn.blocks[-1])):
                turn.blocks += grown
                turn.names.append(next(fresh_names))
                turn.left -= 1
            elif not turn.left:
                rows_seen.append(rows(turn.blocks))
                for block, name in zip(turn.blocks[:-1], turn.names, strict=False):  # the last one is not full
                    table.name(block, name)
                table.unpin(turn.blocks)
                history[talk] = turn.names[:-1]
                del live[talk]
    later = rows_seen[turns // 2 :]
    return Outcome(found / asked, sum(later) / len(later))
