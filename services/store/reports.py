"""What a store tells each conductor: its counts, and the names that came and went since.

The catalog tells its changes once, so they are shared out to one ledger per conductor.
A ledger that grows beyond reason, or a report that may be lost, is settled by a snapshot.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakSet

from kvstore.catalog import Catalog
from kvstore.names import BlockName
from kvstore.transfer import Came
from kvstore.vocabulary import Changes, DiskSnapshot
from scheduler.vocabulary import Carried, Digests, HitsReport, OwnerReport, SsdReport, StoreId, StoreReport
from services.store.ssd_tier import SsdTier

DIGEST_EVERY = 50
"""Reports from one digest to the next: 5 s, as nothing but a bug makes it differ."""

LONGEST = 65_536
"""Names in one ledger, 1 MiB; a conductor so far behind is better told everything."""


@dataclass(slots=True)
class Told:
    """What one conductor has not been told yet of the names in one tier."""

    gained: dict[BlockName, None] = field(default_factory=dict)
    lost: dict[BlockName, None] = field(default_factory=dict)

    def add(self, gained: tuple[BlockName, ...], lost: tuple[BlockName, ...]) -> None:
        for name in gained:
            _changed(name, into=self.gained, out_of=self.lost)
        for name in lost:
            _changed(name, into=self.lost, out_of=self.gained)

    def clear(self) -> None:
        self.gained.clear()
        self.lost.clear()

    def __len__(self) -> int:
        return len(self.gained) + len(self.lost)


SOURCES = 256
"""Of which a ledger knows what they carried; a link that is passed over once is measured again."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Ledger:
    """What one conductor has not been told yet. behind: it needs a snapshot. carried: by source."""

    dram: Told = field(default_factory=Told)
    ssd: Told = field(default_factory=Told)
    behind: bool = False
    carried: dict[StoreId | None, Carried] = field(default_factory=dict)

    def add(self, changes: Changes) -> None:
        coming = sum(map(len, (changes.gained, changes.lost, changes.ssd_gained, changes.ssd_lost)))
        if coming > LONGEST:  # a million that an SSD file brings are not worth a third of a second
            self.clear()
            self.behind = True
            return
        self.dram.add(changes.gained, changes.lost)
        self.ssd.add(changes.ssd_gained, changes.ssd_lost)
        if len(self.dram) + len(self.ssd) > LONGEST:
            self.clear()
            self.behind = True

    def carry(self, more: Carried) -> None:
        known = self.carried.get(more.source)
        if known is not None:
            size_bytes, seconds = known.size_bytes + more.size_bytes, known.seconds + more.seconds
            self.carried[more.source] = Carried(more.source, size_bytes, seconds)
        elif len(self.carried) < SOURCES:
            self.carried[more.source] = more

    def take_carried(self) -> tuple[Carried, ...]:
        """It is told once; if that is lost, the next is as good."""
        carried, self.carried = self.carried, {}
        return tuple(carried.values())

    def changes(self) -> Changes:
        return Changes(tuple(self.dram.gained), tuple(self.dram.lost), tuple(self.ssd.gained), tuple(self.ssd.lost))

    def clear(self) -> None:
        self.dram.clear()
        self.ssd.clear()


class StoreReports:
    """Composes the reports of one store."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        store: StoreId,
        incarnation: int,
        address: str,
        ssd: SsdTier | None = None,
        transfer_address: str = "",
        came: Callable[[], tuple[Came, ...]] = tuple,
        digest_every: int = DIGEST_EVERY,
    ) -> None:
        """came: see ``Transfer``."""
        self._catalog = catalog
        self._store = store
        self._incarnation = incarnation
        self._address = address
        self._ssd = ssd
        self._transfer_address = transfer_address
        self._came = came
        self._digest_every = digest_every
        self._ledgers: WeakSet[Ledger] = WeakSet()  # whoever reports has it, and a conductor may be gone for good

    def ledger(self) -> Ledger:
        """One more conductor to tell, for as long as the ledger is kept."""
        ledger = Ledger(behind=True)
        self._ledgers.add(ledger)
        return ledger

    def gather(self) -> None:
        """Bring every ledger up to date."""
        changes, carried = self._catalog.changes(), self._carried()
        for each in self._ledgers:
            each.add(changes)
            for more in carried:
                each.carry(more)

    def _carried(self) -> list[Carried]:
        carried = [Carried(StoreId(it.source), it.size_bytes, it.seconds) for it in self._came()]
        if self._ssd is not None:
            size_bytes, seconds = self._ssd.reading.take()
            if size_bytes and seconds > 0.0:
                carried.append(Carried(None, size_bytes, seconds))
        return carried

    def compose(self, ledger: Ledger, sequence: int, snapshot: bool) -> StoreReport:
        """The next report to this ledger's conductor, which counts as told now."""
        self.gather()
        snapshot = snapshot or ledger.behind
        if snapshot:
            changes = Changes(tuple(self._catalog.held_names()), (), tuple(self._catalog.disk_names()), ())
        else:
            changes = ledger.changes()
        ledger.clear()
        ledger.behind = False
        counts = self._catalog.snapshot()
        return StoreReport(
            store=self._store,
            incarnation=self._incarnation,
            sequence=sequence,
            address=self._address,
            pid=os.getpid(),
            identity=self._catalog.identity,
            slots_total=counts.total,
            slots_free=counts.free,
            slots_writing=counts.writing,
            slots_sealed=counts.sealed,
            leases=counts.leases,
            snapshot=snapshot,
            gained=changes.gained,
            lost=changes.lost,
            ssd_gained=changes.ssd_gained,
            ssd_lost=changes.ssd_lost,
            sessions=counts.sessions,
            transfer_address=self._transfer_address,
            ssd=None if self._ssd is None else _ssd(self._ssd, counts.disk),
            hits=HitsReport(counts.hits.asked, counts.hits.dram, counts.hits.ssd, counts.hits.peer),
            digests=None if sequence % self._digest_every else Digests(*self._catalog.digests()),
            owners=tuple(OwnerReport(it.owner, it.leases, it.writing, it.set_aside) for it in counts.owners),
            carried=ledger.take_carried(),
        )


def _ssd(tier: SsdTier, disk: DiskSnapshot | None) -> SsdReport:
    if disk is None:
        return SsdReport(tier.state, tier.reason)
    return SsdReport(tier.state, tier.reason, disk.total, disk.held, disk.pending)


def _changed(name: BlockName, *, into: dict[BlockName, None], out_of: dict[BlockName, None]) -> None:
    if name in out_of:
        del out_of[name]
    else:
        into[name] = None
