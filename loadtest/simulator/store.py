"""One host's store: the real catalog, whose moves between tiers and hosts take modelled time.

Its answers come through callbacks, as the live store's come over a stream. A push from another host is a session
of its own, as is a fetch, so that what ends with either is the catalog's own doing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import assert_never

from kvstore.catalog import Catalog
from kvstore.layout import Identity, KvLayout
from kvstore.names import BlockName
from kvstore.vocabulary import (
    Allocation,
    Answer,
    Changes,
    Demote,
    Drop,
    Fetch,
    Lease,
    Peer,
    Promote,
    SessionId,
    SlotRef,
    Write,
)
from loadtest.simulator.events import Events
from loadtest.simulator.links import Links
from scheduler.vocabulary import Carried, CopyOrder, Digests, HitsReport, SsdReport, StoreId, StoreReport, StoreTarget

DIGEST_EVERY = 50
"""The live store's."""

Leased = Callable[[list[Lease]], None]


@dataclass(slots=True)
class _Call:
    """An acquire that is not answered whole."""

    leased: Leased
    leases: list[Lease] = field(default_factory=list)


class Ssd:
    """One host's: reads queue for one another, and so do writes."""

    def __init__(self, events: Events, bytes_per_s: float) -> None:
        self._events, self._bytes_per_s = events, bytes_per_s
        self._read_s = self._written_s = 0.0
        self._came_bytes = 0

    def came(self) -> tuple[int, float]:
        """Bytes read since this was last asked, and the seconds in which the disk was reading."""
        size_bytes, self._came_bytes = self._came_bytes, 0
        return size_bytes, size_bytes / self._bytes_per_s

    def read(self, size_bytes: int, done: Callable[[], None]) -> None:
        self._read_s = max(self._events.now, self._read_s) + size_bytes / self._bytes_per_s
        self._events.at(self._read_s, partial(self._was_read, size_bytes, done))

    def _was_read(self, size_bytes: int, done: Callable[[], None]) -> None:
        self._came_bytes += size_bytes
        done()

    def write(self, size_bytes: int, done: Callable[[], None]) -> None:
        self._written_s = max(self._events.now, self._written_s) + size_bytes / self._bytes_per_s
        self._events.at(self._written_s, done)


class Store:
    """See the module. Callbacks come from events, never within the call. stores: all of the cluster's, by name."""

    def __init__(
        self,
        name: StoreId,
        catalog: Callable[[], Catalog],
        *,
        events: Events,
        links: Links,
        stores: Mapping[StoreId, "Store"],
        identity: Identity,
        layout: KvLayout,
        slots: int,
        ssd: Ssd | None = None,
        ssd_slots: int = 0,
    ) -> None:
        self.name = name
        self.layout = layout
        self._events, self._links, self._stores = events, links, stores
        self._identity = identity
        self._make, self._slots = catalog, slots
        self._ssd, self._ssd_slots = ssd, ssd_slots
        self._calls: dict[tuple[SessionId, int], _Call] = {}
        self._called = 0
        self._joined = 0
        self._copying: set[BlockName] = set()
        self.incarnation = 0
        self._begin()

    def _begin(self) -> None:
        """An empty store of a new incarnation."""
        self.incarnation += 1
        self._reports = 0
        self._catalog = self._make()
        self._catalog.adopt(self._identity, self.layout, self._slots)
        if self._ssd is not None:
            self._catalog.attach_disk(self._ssd_slots, [])

    def die(self) -> None:
        """All it held is lost, the SSD's part too; it is there again at once, empty. Who waits for it gets nothing."""
        calls, self._calls = self._calls, {}
        self._begin()
        for call in calls.values():
            self._events.after(0.0, partial(call.leased, []))

    @property
    def now(self) -> float:
        return self._events.now

    # -- sessions -----------------------------------------------------------------------------------------------

    def join(self, owner: str) -> SessionId:
        """A new session."""
        self._joined += 1
        session = SessionId(f"{owner} {self._joined}")
        self._catalog.join(session, owner=owner)
        return session

    def end(self, session: SessionId) -> None:
        """What it wrote is discarded, what it leased released."""
        for key in [key for key in self._calls if key[0] == session]:
            del self._calls[key]
        self._settle(self._catalog.end(session, dead=True))

    # -- blocks -------------------------------------------------------------------------------------------------

    def acquire(
        self,
        session: SessionId,
        names: Sequence[BlockName],
        *,
        wait_s: float,
        leased: Leased,
        handoff: bool = False,
        source: StoreTarget | None = None,
        fetchable: int | None = None,
    ) -> None:
        """Tells once, all that could be leased; waits up to ``wait_s`` for what is on its way."""
        self._called += 1
        call, now = self._called, self._events.now
        self._calls[session, call] = _Call(leased)
        peer = None if source is None or source.store == self.name else Peer(source.store, source.address)
        deadline = now + wait_s
        self._settle(
            self._catalog.acquire(
                session,
                call,
                names,
                deadline=deadline,
                now=now,
                handoff=handoff,
                source=peer,
                fetchable=fetchable,
            )
        )
        if (session, call) in self._calls:
            self._events.at(deadline, self._tick)

    def release(self, session: SessionId, slots: Sequence[SlotRef]) -> None:
        self._catalog.release(session, slots)

    def allocate(
        self, session: SessionId, names: Sequence[BlockName], *, last_is_short: bool, hold: bool
    ) -> list[Allocation]:
        now = self._events.now
        grants = self._catalog.allocate(session, names, last_is_short=last_is_short, hold=hold, now=now)
        self._settle([])
        return grants

    def seal(self, session: SessionId, slots: Sequence[SlotRef]) -> None:
        """Their bytes are all there. Checksums are nobody's concern here."""
        if slots:
            _, answers = self._catalog.seal(session, slots, [0] * len(slots), now=self._events.now)
            self._settle(answers)

    def discard(self, session: SessionId, slots: Sequence[SlotRef]) -> None:
        """These will not be written after all."""
        if slots:
            self._settle(self._catalog.discard(session, slots))

    def publish(self, session: SessionId, after: BlockName | None, names: Sequence[BlockName]) -> None:
        """Blocks that a worker has filled outside a hand-over; no more than the store has room for."""
        front = () if after is None else (after,)
        grants = self.allocate(session, (*front, *names), last_is_short=False, hold=False)
        if after is not None and isinstance(grants[0], Write):
            self.discard(session, [grants[0]])  # only asked to say what the others follow
        self.seal(session, [grant for grant in grants[len(front) :] if isinstance(grant, Write)])

    # -- moves between tiers and hosts --------------------------------------------------------------------------

    def _settle(self, answers: Sequence[Answer]) -> None:
        """After whatever may have changed something: tell who waited, and begin what is to be moved."""
        for answer in answers:
            call = self._calls.get((answer.session, answer.call))
            if call is None:
                continue
            call.leases += answer.leases
            if answer.done:
                del self._calls[answer.session, answer.call]
                # Not within whatever has caused it: its own bookkeeping may not be done yet.
                self._events.after(0.0, partial(call.leased, call.leases))
        for move in self._catalog.moves(now=self._events.now):
            match move:
                case Demote():
                    assert self._ssd is not None, "there is an SSD tier"
                    self._ssd.write(self.layout.block_bytes, partial(self._demoted, self._catalog, move))
                case Promote():
                    assert self._ssd is not None, "there is an SSD tier"
                    self._ssd.read(self.layout.block_bytes, partial(self._promoted, self._catalog, move))
                case Drop():
                    self._catalog.dropped(move)
                case Fetch():
                    _Fetching(self, self._stores[StoreId(move.peer.store)], self._links, move).begin()
                case _:
                    assert_never(move)

    def _demoted(self, catalog: Catalog, move: Demote) -> None:
        if catalog is self._catalog:
            catalog.demoted(move, done=True, now=self._events.now)
            self._settle([])

    def _promoted(self, catalog: Catalog, move: Promote) -> None:
        if catalog is self._catalog:
            self._settle(catalog.promoted(move, done=True, now=self._events.now))

    def _tick(self) -> None:
        self._settle(self._catalog.tick(now=self._events.now))

    def copy(self, order: CopyOrder) -> None:
        """Fetch a prefix that nobody here has asked for, unless that is under way; held like any other afterwards."""
        leaf = order.names[-1]
        if leaf in self._copying:
            return
        session = self.join(f"copy {order.id}")
        self._copying.add(leaf)

        def leased(_: list[Lease]) -> None:
            self._copying.discard(leaf)
            self.end(session)

        self.acquire(session, order.names, wait_s=order.within_s, leased=leased, handoff=True, source=order.source)

    # -- reports ------------------------------------------------------------------------------------------------

    def report(self, *, snapshot: bool = False) -> StoreReport:
        """What was gained and lost since the last one; the first is a snapshot, and others where that is asked for."""
        self._reports += 1
        changes = self._catalog.changes()
        if snapshot:
            changes = Changes(tuple(self._catalog.held_names()), (), tuple(self._catalog.disk_names()), ())
        slots, hits, disk = self._catalog.slots, self._catalog.hits, self._catalog.disk
        ssd = None if disk is None else SsdReport("on", "", disk.total, disk.held, disk.pending)
        return StoreReport(
            store=self.name,
            incarnation=self.incarnation,
            sequence=self._reports,
            address=self.name,
            pid=0,
            identity=self._identity,
            slots_total=slots.total,
            slots_free=slots.free,
            slots_writing=slots.writing,
            slots_sealed=slots.sealed,
            leases=slots.leases,
            snapshot=snapshot or self._reports == 1,
            gained=changes.gained,
            lost=changes.lost,
            ssd_gained=changes.ssd_gained,
            ssd_lost=changes.ssd_lost,
            transfer_address=self.name,
            ssd=ssd,
            digests=None if self._reports % DIGEST_EVERY else Digests(*self._catalog.digests()),
            hits=HitsReport(hits.asked, hits.dram, hits.ssd, hits.peer),
            carried=self._carried(),
        )

    def _carried(self) -> tuple[Carried, ...]:
        """As much as a live store measures: what is on its way counts as far as it has come."""
        came: dict[StoreId | None, tuple[int, float]] = {
            StoreId(source): (it.size_bytes, it.seconds) for source, it in self._links.came(self.name).items()
        }
        if self._ssd is not None:
            came[None] = self._ssd.came()
        return tuple(Carried(source, size, seconds) for source, (size, seconds) in came.items() if size and seconds)

    def held_names(self) -> list[BlockName]:
        """Every whole block in DRAM."""
        return self._catalog.held_names()

    def check(self, *, idle: bool = False) -> None:
        """Assert the conservation laws; idle: and that nobody holds anything."""
        self._catalog.check()
        if idle:
            state = self._catalog.snapshot()
            assert (state.leases, state.writing, state.waiting) == (0, 0, 0), f"{self.name} holds for nobody: {state}"


class _Fetching:
    """A run of blocks that one store asks another for: leased there while they are on their way."""

    def __init__(self, store: Store, peer: Store, links: Links, fetch: Fetch) -> None:
        self._store, self._peer, self._links, self._fetch = store, peer, links, fetch
        self._session = peer.join(f"fetch to {store.name}")
        self._incarnation = peer.incarnation

    def begin(self) -> None:
        """What the peer has on its SSD it promotes first; what is missing there is missing here."""
        wait_s = max(0.0, self._fetch.deadline - self._store.now)
        self._peer.acquire(self._session, self._fetch.names, wait_s=wait_s, leased=self._leased)

    def _leased(self, leases: list[Lease]) -> None:
        size = len(leases) * self._store.layout.block_bytes
        self._links.send(self._peer.name, self._store.name, size, partial(self._arrived, len(leases)))

    def _arrived(self, blocks: int) -> None:
        if self._peer.incarnation == self._incarnation:  # else it died on the way, and nothing came whole
            self._store.seal(self._fetch.session, self._fetch.targets[:blocks])
        self._store.end(self._fetch.session)
        self._peer.end(self._session)
