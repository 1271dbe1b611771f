"""Acquires: what each reader is leased now, what it waits for, and why it stops waiting.

Every acquire is answered in parts, in prefix order, and ends for one of three reasons: all of it
is leased, the next block will not come, or its deadline has. Deadlines are told by ``tick``.
"""

from collections.abc import Iterable, Sequence

from kvstore.lookahead import LookAhead
from kvstore.names import BlockName
from kvstore.plan import Plan
from kvstore.sessions import Sessions
from kvstore.vocabulary import Answer, Hits, SessionId
from kvstore.waiting import Acquire, Waiting


class Readers:
    """All acquires that are not answered whole, over the slots and sessions given."""

    def __init__(self, plan: Plan, sessions: Sessions) -> None:
        self._plan = plan
        self._blocks = plan.dram
        self._sessions = sessions
        self._ahead = LookAhead(plan, sessions)
        self._waiting = Waiting()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def hits(self) -> Hits:
        return self._ahead.hits

    @property
    def next_deadline(self) -> float | None:
        return self._waiting.next_deadline

    def acquire(self, acquire: Acquire, *, now: float) -> list[Answer]:
        """A new one, of a live session; no answer yet where it has to wait for its first block."""
        self._blocks.index.follow(acquire.names)
        self._ahead.asked(acquire)
        answer = self._advance(acquire, now)
        return [answer] if answer.leases or answer.done else []

    def sealed(self, slots: Sequence[int], *, now: float) -> list[Answer]:
        """These blocks have come: at most one answer for each who waited."""
        woken = [acquire for slot in slots for acquire in self._waiting.wake(self._blocks[slot].name)]
        return [self._advance(acquire, now) for acquire in woken]

    def missing(self, names: Iterable[BlockName]) -> list[Answer]:
        """Nobody writes these any more: the last answers of those who waited for them."""
        return [_last(acquire) for name in names for acquire in self._waiting.wake(name)]

    def tick(self, *, now: float) -> list[Answer]:
        """The last answers of those whose deadline has come."""
        return [_last(acquire) for acquire in self._waiting.expire(now=now)]

    def forget(self, session: SessionId) -> None:
        """There is nobody left to answer."""
        self._waiting.forget(session)

    def check(self) -> None:
        for acquire in self._waiting.all():
            assert self._ahead.is_coming(acquire), "an acquire waits for what nobody writes"
            assert self._sessions.live(acquire.session) is not None, "an acquire waits for nobody"

    def _advance(self, acquire: Acquire, now: float) -> Answer:
        """Lease what has come; wait for the next name, or be done."""
        owner = self._sessions.live(acquire.session)
        assert owner is not None
        slots = self._blocks.index.prefix(acquire.names, acquire.position)
        leases = tuple([self._sessions.lease(owner, slot) for slot in slots])
        self._ahead.leased(acquire, leases)
        if not acquire.handoff:
            self._plan.looked_up(slots, now=now)
        acquire.position += len(leases)
        waits = False
        if not acquire.finished and now < acquire.deadline:
            self._ahead.look(acquire, now=now)
            waits = self._ahead.is_coming(acquire)
        if waits:
            self._waiting.add(acquire)
        return Answer(acquire.session, acquire.call, leases, done=not waits)


def _last(acquire: Acquire) -> Answer:
    return Answer(acquire.session, acquire.call, (), done=True)
