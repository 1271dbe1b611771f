"""What an acquire needs that is not in DRAM: bring it there, in prefix order, ahead of the reader.

Names on the SSD are promoted, names found nowhere are fetched from the peer that the acquire
names. Either is a write by an errand of the store's own, so whoever waits for it waits as for
any writer. Slots for what lies ahead of readers are bounded; a reader's very next block needs room only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from kvstore.blocks import Block
from kvstore.names import BlockName
from kvstore.plan import Plan
from kvstore.sessions import Session, Sessions
from kvstore.vocabulary import Fetch, Hits, Lease, SessionId, SlotRef, Tier
from kvstore.waiting import Acquire

PROMOTIONS = SessionId("promotions")
"""The errand that all promotions are writes of."""


@dataclass(slots=True)
class _Look:
    """What one look has begun to bring."""

    now: float
    fetch: tuple[SessionId, Session] | None = None
    names: list[BlockName] = field(default_factory=list)  # to fetch
    targets: list[SlotRef] = field(default_factory=list)


class LookAhead:
    """Works on the slots and sessions it is given, and counts where lookups found what they were given."""

    def __init__(self, plan: Plan, sessions: Sessions) -> None:
        self._plan = plan
        self._sessions = sessions
        self._promotions = sessions.open(PROMOTIONS, Tier.SSD, None)
        self._fetches = count(1)
        self._asked = 0
        self._found = dict.fromkeys(Tier, 0)

    @property
    def hits(self) -> Hits:
        return Hits(self._asked, self._found[Tier.DRAM], self._found[Tier.SSD], self._found[Tier.PEER])

    def asked(self, acquire: Acquire) -> None:
        """Only what a worker looks up is counted: no hand-over, nor what a peer fetches for a worker of its own."""
        if self._counts(acquire):
            self._asked += len(acquire.names)

    def leased(self, acquire: Acquire, leases: Sequence[Lease]) -> None:
        """These are of its next names, from its position on; each is told where it was found."""
        if not self._counts(acquire):
            return
        if not acquire.found:
            self._found[Tier.DRAM] += len(leases)
            return
        for position, lease in enumerate(leases, acquire.position):
            lease.found = acquire.found.pop(position, Tier.DRAM)
            self._found[lease.found] += 1

    def is_coming(self, acquire: Acquire) -> bool:
        """Whether the next name is being written by somebody whom this acquire waits for."""
        slot = self._sessions.writing.get(acquire.next_name)
        return slot is not None and self._waits_for(acquire, slot)

    def look(self, acquire: Acquire, *, now: float) -> None:
        """Begin to bring what comes next and is not in DRAM, as far as there is room for it."""
        if not self.is_coming(acquire):
            acquire.planned = acquire.position  # what was brought in time may have been evicted before its turn
        look = _Look(now)
        while acquire.planned < len(acquire.names) and self._comes(acquire, look):
            acquire.planned += 1
        if look.fetch is not None:
            self._send_for(acquire, look, look.fetch[0])

    def _counts(self, acquire: Acquire) -> bool:
        owner = self._sessions.live(acquire.session)
        return not acquire.handoff and owner is not None and owner.incarnation is not None

    def _waits_for(self, acquire: Acquire, slot: int) -> bool:
        """A lookup waits for what the store itself brings, never for other writers: they may take for ever."""
        return acquire.handoff or self._plan.dram[slot].via is not Tier.DRAM

    def _comes(self, acquire: Acquire, look: _Look) -> bool:
        """Whether the name at ``planned`` is in DRAM, or on its way there; or is from now on."""
        name = acquire.names[acquire.planned]
        if self._plan.dram.index.get(name) is not None:
            return True
        slot = self._sessions.writing.get(name)
        if slot is None:
            slot = self._bring(acquire, look)
        elif not self._waits_for(acquire, slot):
            return False
        if slot is None:
            return False
        acquire.found[acquire.planned] = self._plan.dram[slot].via
        return True

    def _bring(self, acquire: Acquire, look: _Look) -> int | None:
        """Promote or fetch the name at ``planned``; the slot it will be in, or None where that can't be."""
        name = acquire.names[acquire.planned]
        if self._plan.disk is not None and name in self._plan.disk:
            target = self._grant(acquire, look, self._promotions, Tier.SSD)
            if target is not None:
                self._plan.promote(name, target)
        elif self._may_fetch(acquire, look):
            assert acquire.source is not None
            if look.fetch is None:
                errand = SessionId(f"fetch {next(self._fetches)}")
                look.fetch = errand, self._sessions.open(errand, f"fetch from {acquire.source.store}", None)
            target = self._grant(acquire, look, look.fetch[1], Tier.PEER)
            if target is not None:
                look.names.append(name)
                look.targets.append(target)
        else:
            return None
        return None if target is None else target.slot

    def _grant(self, acquire: Acquire, look: _Look, errand: Session, via: Tier) -> SlotRef | None:
        """A slot for the name at ``planned``."""
        position = acquire.planned
        if position > acquire.position and self._sessions.arriving >= self._most_arriving:
            return None
        parent = acquire.names[position - 1] if position else None
        depth = max(position, self._sessions.depth_after(parent))
        block = Block(
            acquire.names[position], parent, short=False, hold=False, granted_at=look.now, via=via, depth=depth
        )
        slot = self._sessions.grant(errand, block)
        return None if slot is None else self._plan.dram.ref(slot)

    def _may_fetch(self, acquire: Acquire, look: _Look) -> bool:
        """Ahead of the reader only a run that is worth the question: half of what may arrive, or all that is left."""
        left = acquire.fetchable - acquire.planned
        if acquire.source is None or left <= 0:
            return False
        if look.fetch is not None:
            return True
        room = self._most_arriving - self._sessions.arriving
        return acquire.planned == acquire.position or room >= min(left, self._most_arriving / 2)

    def _send_for(self, acquire: Acquire, look: _Look, errand: SessionId) -> None:
        if not look.targets:
            self._sessions.bury(errand)
            return
        assert acquire.source is not None
        names, targets = tuple(look.names), tuple(look.targets)
        self._plan.fetch(Fetch(errand, acquire.source, names, targets, acquire.deadline))

    @property
    def _most_arriving(self) -> int:
        """A quarter of the arena."""
        return max(1, self._plan.dram.slots.total // 4)
