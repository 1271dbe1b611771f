"""Requests that were refused and told when to come back: a virtual queue, in the order in which they were told.

Nothing waits here. A *turn* stands for a request that is to come back: which work it will bring, and by when the
queues have to be short enough for it. Those told earlier come first, so each refusal is told a time at which those
before it have been served; and what is free meanwhile goes to newcomers only as far as every turn still holds.
Turns that are not taken expire, so that capacity is kept for them briefly, and the less the fewer clients come back.

A client has no name that could be trusted. What comes back is the same request: its prompt's last block name, lengths
and tenant are its key. Of equal requests, the one that was to come back first has come back.
"""

from collections import deque
from dataclasses import dataclass
from math import inf

import numpy as np

from scheduler.table import Bools, Floats
from scheduler.vocabulary import Ask, RequestId

LONGEST_TURN_S = 120.0
"""The longest time that is told: openai 3.57 gives up at once where Retry-After is more. A request that is told less
than its turn takes keeps its place when it comes back."""

MOST_TURNS = 4096
"""More refusals than that are told the latest time, and have no place."""

EARLY_S = 0.1
"""A timer of a client may fire so much before the time that was told."""

GRACE_S, GRACE = 2.0, 0.1
"""How late a client may come, and in part of what it was told: Retry-After is in whole seconds, rounded up, and some
clients add a little of their own."""

MEMORY = 0.98
"""What a turn that was taken or expired counts after another one, for the share that is taken."""

SHOWS, PRIOR_TURNS = 0.6, 5.0
"""The share that is assumed at first, as if of so many turns: two that are not taken are enough to keep nothing free,
and a crowd that comes back has shown it by then."""

ROW = np.dtype(
    [
        ("rank", "i8"),
        ("due_s", "f8"),
        ("until_s", "f8"),
        ("prefill_s", "f8"),
        ("prefill_by_s", "f8"),
        ("decode_s", "f8"),
        ("decode_by_s", "f8"),
        ("open", "?"),
    ]
)

Key = tuple[str, bytes, int, int, str]


def key_of(ask: Ask) -> Key:
    """Of a request and of the same one when it comes back."""
    return ask.tenant, ask.names[-1] if ask.names else b"", ask.tokens, ask.max_new_tokens, ask.priority.value


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a turn is for. Seconds of the prefill pool and of the decode pool that its work takes; and by when, by the
    conductor's clock, the work before it has to be done in each: inf where that does not matter."""

    prefill_s: float = 0.0
    prefill_by_s: float = inf
    decode_s: float = 0.0
    decode_by_s: float = inf


@dataclass(slots=True, eq=False)
class Turn:
    """rank: of lower ones all come first. due_s: when it would be taken; comes_s: when it was told to come."""

    key: Key
    request: RequestId
    rank: int
    row: int
    due_s: float
    comes_s: float

    def is_due(self, now: float) -> bool:
        return self.due_s <= now + EARLY_S


@dataclass(frozen=True, slots=True)
class Line:
    """The turns before a request, in their order: see ``Wanted``."""

    due_s: Floats
    prefill_s: Floats
    prefill_by_s: Floats
    decode_s: Floats
    decode_by_s: Floats

    def __len__(self) -> int:
        return len(self.due_s)

    @property
    def latest_s(self) -> float:
        """When the last of them is due; -inf where there is none."""
        return float(self.due_s.max(initial=-inf))


class Turns:
    """See the module. most: turns that are kept."""

    def __init__(self, most: int = MOST_TURNS) -> None:
        self._most = most
        self._rows = np.zeros(2 * most, ROW)
        self._turns: list[Turn | None] = []  # by row; the order of rows is that of the line
        self._open = 0
        self._by_key: dict[Key, deque[Turn]] = {}
        self._by_request: dict[RequestId, Turn] = {}
        self._taken, self._ended = SHOWS * PRIOR_TURNS, PRIOR_TURNS

    def __len__(self) -> int:
        return self._open

    @property
    def shows(self) -> float:
        """The share of turns that are taken."""
        return self._taken / self._ended

    def of(self, ask: Ask, *, now: float) -> Turn | None:
        """The turn that this request comes for: its own, or the first of its kind that was to come until now."""
        if ask.request in self._by_request:
            return self._by_request[ask.request]
        waiting = self._by_key.get(key_of(ask), ())
        return next((turn for turn in waiting if turn.comes_s <= now + EARLY_S), None)

    def line(self, rank: int, *, before: Turn | None = None) -> Line:
        """All turns of lower ranks, and those of this rank before a turn, or before a newcomer."""
        rows = self._rows[: len(self._turns)]
        earlier = np.arange(len(rows)) < (len(rows) if before is None else before.row)
        rows = rows[rows["open"] & ((rows["rank"] < rank) | (earlier & (rows["rank"] == rank)))]
        return Line(*(rows[name] for name in ("due_s", "prefill_s", "prefill_by_s", "decode_s", "decode_by_s")))

    def tell(self, ask: Ask, wanted: Wanted, *, rank: int, due_s: float, turn: Turn | None, now: float) -> float:
        """In how many seconds to come back. turn: that it had and keeps; None: it gets one, the last."""
        after_s = min(max(due_s - now, EARLY_S), LONGEST_TURN_S)
        if turn is not None:
            self._forget_names(turn)
            turn.request, turn.rank = ask.request, rank
        elif self._open < self._most:
            turn = self._new(ask, rank)
        else:
            return LONGEST_TURN_S
        turn.due_s, turn.comes_s = due_s, now + after_s
        until_s = turn.comes_s + GRACE_S + GRACE * after_s
        self._rows[turn.row] = (
            rank,
            due_s,
            until_s,
            wanted.prefill_s,
            wanted.prefill_by_s,
            wanted.decode_s,
            wanted.decode_by_s,
            True,
        )
        self._by_key.setdefault(turn.key, deque()).append(turn)
        self._by_request[turn.request] = turn
        return after_s

    def taken(self, turn: Turn) -> None:
        """Its request has come back and is served."""
        self._close(turn, taken=True)

    def expire(self, *, now: float) -> None:
        """Forget the turns that were not taken in time."""
        if not self._open:
            return
        rows = self._rows[: len(self._turns)]
        for row in np.flatnonzero(rows["open"] & (rows["until_s"] < now)):
            turn = self._turns[row]
            assert turn is not None, "an open row has a turn"
            self._close(turn, taken=False)

    def _new(self, ask: Ask, rank: int) -> Turn:
        if len(self._turns) == len(self._rows):
            self._close_ranks()
        turn = Turn(key_of(ask), ask.request, rank, len(self._turns), inf, inf)
        self._turns.append(turn)
        self._open += 1
        return turn

    def _close(self, turn: Turn, *, taken: bool) -> None:
        self._taken = MEMORY * self._taken + taken
        self._ended = MEMORY * self._ended + 1.0
        self._rows["open"][turn.row] = False
        self._turns[turn.row] = None
        self._open -= 1
        self._forget_names(turn)
        if not self._open:
            self._turns.clear()

    def _forget_names(self, turn: Turn) -> None:
        waiting = self._by_key[turn.key]
        waiting.remove(turn)
        if not waiting:
            del self._by_key[turn.key]
        if self._by_request.get(turn.request) is turn:
            del self._by_request[turn.request]

    def _close_ranks(self) -> None:
        """Rows of closed turns are used again."""
        rows = self._rows[: len(self._turns)]
        kept: Bools = rows["open"]
        turns = [turn for turn in self._turns if turn is not None]
        self._rows[: len(turns)] = rows[kept]
        self._rows["open"][len(turns) :] = False
        self._turns = list(turns)
        for row, turn in enumerate(turns):
            turn.row = row
