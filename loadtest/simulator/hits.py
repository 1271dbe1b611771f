"""How much of a trace a cache of so many blocks would have held: one pool, cold start, the store's own policies.

No time passes here. A request looks up the longest run of its blocks from the first on, then all of its
blocks are there and used. Counted in blocks, as the papers do, and in tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvstore.eviction import EvictionPolicy
from loadtest.traces.trace import BLOCK_TOKENS, Row


@dataclass(frozen=True, slots=True)
class HitRate:
    """Shares of everything that was looked up, in [0, 1]."""

    block: float
    token: float


def hit_rate(rows: Iterable[Row], policy: EvictionPolicy, blocks: int | None, *, leaf_first: bool = False) -> HitRate:
    """blocks: the pool's capacity, None for one that never evicts.

    leaf_first: a use touches the last block first and the root last, as our store does, so that tails go before
    heads; else in the order of the prompt, as the published figures were measured.
    """
    pool = _Pool(policy, blocks)
    hit = asked = hit_tokens = asked_tokens = 0
    for row in rows:
        held = pool.lookup(row.hash_ids)
        hit, asked = hit + held, asked + len(row.hash_ids)
        hit_tokens += min(held * BLOCK_TOKENS, row.input_length)
        asked_tokens += row.input_length
        uses = list(enumerate(row.hash_ids))
        pool.use(uses[::-1] if leaf_first else uses)
    return HitRate(hit / asked, hit_tokens / asked_tokens)


class _Pool:
    """Which blocks are in which slot; a slot that was evicted is given out again."""

    def __init__(self, policy: EvictionPolicy, blocks: int | None) -> None:
        self._policy, self._blocks = policy, blocks
        self._slots: dict[int, int] = {}
        self._names: list[int] = []  # by slot
        self._free: list[int] = []
        self._stamp = 0

    def lookup(self, names: Sequence[int]) -> int:
        """How many of these, from the first on, are held without a gap."""
        for place, name in enumerate(names):
            if name not in self._slots:
                return place
        return len(names)

    def use(self, names: Iterable[tuple[int, int]]) -> None:
        """Each with how many blocks of its prompt come before it."""
        for depth, name in names:
            slot = self._slots.get(name)
            self._stamp += 1
            self._policy.used(self._new(name) if slot is None else slot, self._stamp, depth)
        while self._blocks is not None and len(self._slots) > self._blocks:
            victim = self._policy.victim()
            assert victim is not None, "whatever is held can go"
            self._policy.forget(victim)
            del self._slots[self._names[victim]]
            self._free.append(victim)

    def _new(self, name: int) -> int:
        if self._free:
            slot = self._free.pop()
            self._names[slot] = name
        else:
            slot = len(self._names)
            self._names.append(name)
        self._slots[name] = slot
        return slot
