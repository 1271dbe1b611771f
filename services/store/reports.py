"""What a store tells each conductor: its counts, and the names that came and went since.

The catalog tells its changes once, so they are shared out to one ledger per conductor.
A ledger that grows beyond reason, or a report that may be lost, is settled by a snapshot.
"""

import os
from dataclasses import dataclass, field

from kvstore.catalog import Catalog
from kvstore.names import BlockName
from scheduler.vocabulary import StoreId, StoreReport

LONGEST = 65_536
"""Names in one ledger, 1 MiB; a conductor so far behind is better told everything."""


@dataclass(slots=True)
class Ledger:
    """What one conductor has not been told yet. behind: it needs a snapshot."""

    gained: dict[BlockName, None] = field(default_factory=dict)
    lost: dict[BlockName, None] = field(default_factory=dict)
    behind: bool = False

    def add(self, gained: tuple[BlockName, ...], lost: tuple[BlockName, ...]) -> None:
        for name in gained:
            _changed(name, into=self.gained, out_of=self.lost)
        for name in lost:
            _changed(name, into=self.lost, out_of=self.gained)
        if len(self.gained) + len(self.lost) > LONGEST:
            self.clear()
            self.behind = True

    def clear(self) -> None:
        self.gained.clear()
        self.lost.clear()


class StoreReports:
    """Composes the reports of one store."""

    def __init__(self, catalog: Catalog, *, store: StoreId, incarnation: int, address: str) -> None:
        self._catalog = catalog
        self._store = store
        self._incarnation = incarnation
        self._address = address
        self._ledgers: list[Ledger] = []

    def ledger(self) -> Ledger:
        """One more conductor to tell."""
        self._ledgers.append(Ledger(behind=True))
        return self._ledgers[-1]

    def compose(self, ledger: Ledger, sequence: int, snapshot: bool) -> StoreReport:
        """The next report to this ledger's conductor, which counts as told now."""
        changes = self._catalog.changes()
        for each in self._ledgers:
            each.add(changes.gained, changes.lost)
        snapshot = snapshot or ledger.behind
        gained = tuple(self._catalog.held_names()) if snapshot else tuple(ledger.gained)
        lost = () if snapshot else tuple(ledger.lost)
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
            gained=gained,
            lost=lost,
            sessions=counts.sessions,
        )


def _changed(name: BlockName, *, into: dict[BlockName, None], out_of: dict[BlockName, None]) -> None:
    if name in out_of:
        del out_of[name]
    else:
        into[name] = None
