"""Who writes which slot and who leases it: everything a session holds, and what ends with it.

A session is one connection of a worker, or an errand of the store's own: a push from a peer,
a fetch, the promotions. Sessions that lost their connection while their process may still be
copying are set aside: they keep their slots, but nobody waits for what they write.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from kvstore.blocks import Block
from kvstore.names import BlockName
from kvstore.plan import Plan
from kvstore.slots import SlotState
from kvstore.vocabulary import Lease, OwnerCounts, SessionId, SlotRef, Tier


@dataclass(slots=True)
class Session:
    """incarnation: of a worker's process; None for an errand of the store's own."""

    owner: str
    incarnation: int | None
    live: bool = True
    writing: dict[int, None] = field(default_factory=dict)  # slots, in the order they were granted
    leases: dict[int, int] = field(default_factory=dict)  # slot -> how many of its leases are ours


class Sessions:
    """All there are, over the slots of ``plan``."""

    def __init__(self, plan: Plan) -> None:
        self.writing: dict[BlockName, int] = {}
        """What live sessions are writing: name -> slot."""
        self.arriving = 0
        """Slots granted to promotions and fetches, and not sealed yet."""
        self._plan = plan
        self._blocks = plan.dram
        self._sessions: dict[SessionId, Session] = {}

    def open(self, session: SessionId, owner: str, incarnation: int | None) -> Session:
        assert session not in self._sessions, f"session {session} exists already"
        self._sessions[session] = Session(owner, incarnation)
        return self._sessions[session]

    def get(self, session: SessionId) -> Session | None:
        return self._sessions.get(session)

    def live(self, session: SessionId) -> Session | None:
        """None for one that has ended or was set aside."""
        owner = self._sessions.get(session)
        return owner if owner is not None and owner.live else None

    def of_worker(self, worker: str) -> list[tuple[SessionId, Session]]:
        return [(id, s) for id, s in self._sessions.items() if s.owner == worker and s.incarnation is not None]

    @property
    def set_aside(self) -> tuple[SessionId, ...]:
        return tuple(session for session, owner in self._sessions.items() if not owner.live)

    # Ending

    def abandon(self, owner: Session) -> list[BlockName]:
        """Its connection is gone: nobody waits any more for these names, which it was writing."""
        abandoned = [self._blocks[slot].name for slot in owner.writing] if owner.live else []
        for name in abandoned:
            del self.writing[name]
        owner.live = False
        return abandoned

    def bury(self, session: SessionId) -> None:
        """What it was writing is discarded, what it leased is released."""
        owner = self._sessions[session]
        for slot in owner.writing:
            self._discard(slot)
        self.release(owner, [slot for slot, count in owner.leases.items() for _ in range(count)])
        del self._sessions[session]

    # Writing

    def writes(self, owner: Session, ref: SlotRef) -> bool:
        slot = ref.slot
        return slot in owner.writing and self._blocks.slots.is_current(slot, ref.generation)

    def depth_after(self, parent: BlockName | None) -> int:
        """How many blocks come before one that follows ``parent``, as far as is known."""
        if parent is None:
            return 0
        slot = self._blocks.index.get(parent)
        if slot is None:
            slot = self.writing.get(parent)
        return 0 if slot is None else self._blocks[slot].depth + 1

    def grant(self, owner: Session, block: Block) -> int | None:
        """A slot to write this block to, or None where there is no room."""
        slot = self._plan.grant(block)
        if slot is None:
            return None
        owner.writing[slot] = None
        self.writing[block.name] = slot
        self.arriving += block.via is not Tier.DRAM
        return slot

    def seal(self, owner: Session, slot: int, checksum: int, *, now: float) -> Block:
        block = self._plan.seal(slot, checksum, now=now)
        del owner.writing[slot]
        del self.writing[block.name]
        self.arriving -= block.via is not Tier.DRAM
        if block.hold:
            self.keep(owner, slot)
        return block

    def discard(self, owner: Session, slot: int) -> BlockName:
        name = self._discard(slot)
        del owner.writing[slot]
        del self.writing[name]
        return name

    def _discard(self, slot: int) -> BlockName:
        block = self._blocks.discard(slot)
        self.arriving -= block.via is not Tier.DRAM
        return block.name

    # Reading

    def lease(self, owner: Session, slot: int) -> Lease:
        owner.leases[slot] = owner.leases.get(slot, 0) + 1
        return self._blocks.lease(slot)

    def keep(self, owner: Session, slot: int) -> None:
        """A lease for one who knows where the block is."""
        owner.leases[slot] = owner.leases.get(slot, 0) + 1
        self._blocks.keep(slot)

    def release(self, owner: Session, slots: Iterable[int], *, counted: bool = False) -> None:
        """End one lease of this session on each, where it has one. counted: they were read."""
        released: list[int] = []
        leases, end_lease = owner.leases, self._blocks.slots.release
        for slot in slots:
            count = leases.get(slot, 0)
            if count > 1:
                leases[slot] = count - 1
            elif count == 1:
                del leases[slot]
            else:
                continue
            end_lease(slot)
            released.append(slot)
        self._plan.settle(released, counted=counted)

    # What others want to know

    def workers(self, *, live: bool) -> tuple[str, ...]:
        """Worker ids of sessions that are connected, or of those that are set aside."""
        return tuple(s.owner for s in self._sessions.values() if s.live is live and s.incarnation is not None)

    @property
    def oldest_write(self) -> float | None:
        """When the oldest grant that is still being written was given."""
        granted = (self._blocks[slot].granted_at for owner in self._sessions.values() for slot in owner.writing)
        return min(granted, default=None)

    def owners(self) -> tuple[OwnerCounts, ...]:
        """Everybody who holds anything."""
        leases, writing = Counter[tuple[str, bool]](), Counter[tuple[str, bool]]()
        for session in self._sessions.values():
            key = session.owner, not session.live
            leases[key] += sum(session.leases.values())
            writing[key] += len(session.writing)
        keys = [key for key in leases if leases[key] or writing[key]]
        return tuple(OwnerCounts(owner, leases[key], writing[key], aside) for key in keys for owner, aside in [key])

    def check(self) -> None:
        """AssertionError where what sessions hold and what slots say is not the same."""
        slots = self._blocks.slots
        written = [slot for owner in self._sessions.values() for slot in owner.writing]
        assert len(set(written)) == len(written) == slots.writing, "a slot is half-written for nobody, or for two"
        assert all(slots.state(slot) is SlotState.WRITING for slot in written), "a session writes what is sealed"
        live = {self._blocks[slot].name: slot for o in self._sessions.values() if o.live for slot in o.writing}
        assert self.writing == live, "names being written by live sessions are not those known to be"
        assert not any(self._blocks.index.get(name) is not None for name in live), "a name is held and being written"
        arriving = sum(self._blocks[slot].via is not Tier.DRAM for slot in written)
        assert self.arriving == arriving, "slots of promotions and fetches are miscounted"
        for slot in range(slots.total):
            leases = sum(owner.leases.get(slot, 0) for owner in self._sessions.values())
            pins = slot in self._blocks.pinned
            assert leases + pins == slots.leases_on(slot), f"slot {slot}: a lease without a session, or the reverse"
