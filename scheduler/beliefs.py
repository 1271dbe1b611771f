"""What the conductor believes of the cluster: the latest reports, and what it has itself promised since.

All of it is soft. Reports rebuild it after a restart; who is silent for ``report_ttl_s`` is believed
dead; a placement is *booked* at its workers until a report of theirs lists the request as live, an
outcome undoes it, or it expires. Being wrong costs time, never a token.
"""

from collections import deque
from dataclasses import dataclass, field, replace

from kvstore.layout import Identity
from kvstore.vocabulary import IdentityMismatch
from scheduler import estimate
from scheduler.prefixes import PrefixIndex
from scheduler.vocabulary import RequestId, StoreId, StoreReport, StoreTarget, WorkerId, WorkerReport

REMEMBERED = 8
"""Past incarnations of one process whose late reports are recognised as such."""


@dataclass(frozen=True, slots=True)
class Booking:
    """What a placement will ask of one worker, until that worker tells so itself.

    prefill_s: work for its prefill queue. seats, kv_tokens, blocks: for its batch.
    """

    expires_s: float
    prefill_s: float = 0.0
    seats: int = 0
    kv_tokens: int = 0
    blocks: int = 0


@dataclass(slots=True)
class WorkerBelief:
    """One worker: its latest report plus bookings. The sums are kept, since every placement looks at every worker."""

    report: WorkerReport
    heard_s: float
    bookings: dict[RequestId, Booking] = field(default_factory=dict)
    queue_s: float = 0.0
    """Predicted seconds until a prefill that comes now would begin."""
    sequences: int = 0
    """Running, waiting and booked."""
    kv_tokens: int = 0
    blocks_free: int = 0

    def recount(self) -> None:
        """To be called whenever the report or a booking has changed."""
        report, booked = self.report, self.bookings.values()
        self.queue_s = _queued_s(report) + sum(booking.prefill_s for booking in booked)
        self.sequences = report.running + report.waiting + sum(booking.seats for booking in booked)
        self.kv_tokens = report.kv_tokens + sum(booking.kv_tokens for booking in booked)
        self.blocks_free = report.gpu_blocks_free - sum(booking.blocks for booking in booked)


def _queued_s(report: WorkerReport) -> float:
    """The prefills that a worker has queued, taken as equally long, since it reports only their sum."""
    if not report.prefill_tokens_queued:
        return 0.0
    prompts = max(1, report.waiting)
    return prompts * estimate.prefill_s(report.profile, -(-report.prefill_tokens_queued // prompts))


@dataclass(slots=True)
class StoreBelief:
    """One store: its latest report, without names; lost_track: a report was missed, and no snapshot came since."""

    report: StoreReport
    heard_s: float
    lost_track: bool


class Beliefs:
    """Facts in, with the time they were learned; the conductor reads what follows from them."""

    def __init__(self, report_ttl_s: float) -> None:
        self.identity: Identity | None = None
        self.workers: dict[WorkerId, WorkerBelief] = {}
        self.stores: dict[StoreId, StoreBelief] = {}
        self.prefixes = PrefixIndex()
        self._report_ttl_s = report_ttl_s
        self._past: dict[str, deque[int]] = {}
        self._booked: dict[RequestId, tuple[WorkerId, ...]] = {}

    def alive(self, heard_s: float, now: float) -> bool:
        return now - heard_s <= self._report_ttl_s

    def reachable(self, store: StoreId | None, now: float) -> StoreTarget | None:
        """Where other stores push to this one and fetch from it; None where they can't, or it is believed dead."""
        known = self.stores.get(store) if store is not None else None
        if known is None or not known.report.transfer_address or not self.alive(known.heard_s, now):
            return None
        return StoreTarget(known.report.store, known.report.transfer_address)

    # -- reports ------------------------------------------------------------------------------------------------

    def worker_reported(self, report: WorkerReport, *, now: float) -> None:
        """Raises IdentityMismatch. A report of a new incarnation ends everything believed of the older one."""
        self._check(report.identity, now)
        if self._is_past(report.worker, report.incarnation):
            return
        known = self.workers.get(report.worker)
        if known is not None and report.incarnation != known.report.incarnation:
            self._bury(report.worker, known.report.incarnation)
            self._forget_worker(report.worker)
            known = None
        if known is not None and report.sequence <= known.report.sequence:
            return
        if known is None:
            known = self.workers[report.worker] = WorkerBelief(report, now)
        known.report, known.heard_s = report, now
        for request in known.bookings.keys() & set(report.live):
            del known.bookings[request]
        known.recount()

    def store_reported(self, report: StoreReport, *, now: float) -> bool:
        """True: it should send all its names next. Raises IdentityMismatch."""
        if report.identity is not None:
            self._check(report.identity, now)
        if self._is_past(report.store, report.incarnation):
            return False
        known = self.stores.get(report.store)
        if known is not None and report.incarnation != known.report.incarnation:
            self._bury(report.store, known.report.incarnation)
            self._forget_store(report.store)
            known = None
        if known is not None and report.sequence <= known.report.sequence:
            return known.lost_track
        missed = known is None or known.lost_track or report.sequence != known.report.sequence + 1
        if report.snapshot:
            self.prefixes.forget(report.store)
        # Deltas behind a gap are applied too: they are as true as before, and what was missed is asked for.
        self.prefixes.gained(report.store, report.gained)
        self.prefixes.lost(report.store, report.lost)
        self.prefixes.gained(report.store, report.ssd_gained, ssd=True)
        self.prefixes.lost(report.store, report.ssd_lost, ssd=True)
        lost_track = missed and not report.snapshot
        self.stores[report.store] = StoreBelief(
            replace(report, gained=(), lost=(), ssd_gained=(), ssd_lost=()), now, lost_track
        )
        return lost_track

    def _check(self, identity: Identity, now: float) -> None:
        if self.identity is not None and self.identity.differences(identity) is not None:
            self.expire(now=now)  # nobody may be left who would disagree
        if self.identity is None:
            self.identity = identity
        differences = self.identity.differences(identity)
        if differences is not None:
            raise IdentityMismatch(differences)

    def _bury(self, process: str, incarnation: int) -> None:
        self._past.setdefault(process, deque(maxlen=REMEMBERED)).append(incarnation)

    def _is_past(self, process: str, incarnation: int) -> bool:
        return incarnation in self._past.get(process, ())

    # -- bookings -----------------------------------------------------------------------------------------------

    def book(self, request: RequestId, bookings: dict[WorkerId, Booking]) -> None:
        """Replaces what was booked for an earlier placement of this request."""
        self.unbook(request)
        for worker, booking in bookings.items():
            belief = self.workers[worker]
            belief.bookings[request] = booking
            belief.recount()
        self._booked[request] = tuple(bookings)

    def unbook(self, request: RequestId) -> None:
        """Undo what a request has booked, wherever that still stands."""
        for worker in self._booked.pop(request, ()):
            self._drop(worker, request)

    def handed_over(self, request: RequestId) -> None:
        """Its prefill is done; what it has booked for its decode stays."""
        for worker in self._booked.get(request, ()):
            belief = self.workers.get(worker)
            if belief is not None and request in belief.bookings and not belief.bookings[request].seats:
                self._drop(worker, request)

    def _drop(self, worker: WorkerId, request: RequestId) -> None:
        belief = self.workers.get(worker)
        if belief is not None and belief.bookings.pop(request, None) is not None:
            belief.recount()

    # -- time ---------------------------------------------------------------------------------------------------

    def expire(self, *, now: float) -> None:
        """Forget silent processes, stale bookings, and, when nobody is left, which deployment this was."""
        for worker in [each for each, belief in self.workers.items() if not self.alive(belief.heard_s, now)]:
            self._forget_worker(worker)
        for store in [each for each, known in self.stores.items() if not self.alive(known.heard_s, now)]:
            self._forget_store(store)
        for belief in self.workers.values():
            stale = [request for request, booking in belief.bookings.items() if booking.expires_s <= now]
            for request in stale:
                del belief.bookings[request]
            if stale:
                belief.recount()
        self._booked = {request: at for request, at in self._booked.items() if self._stands(request, at)}
        self.prefixes.sweep()
        if not self.workers and not self.stores:
            self.identity = None

    def _stands(self, request: RequestId, at: tuple[WorkerId, ...]) -> bool:
        return any(worker in self.workers and request in self.workers[worker].bookings for worker in at)

    def _forget_worker(self, worker: WorkerId) -> None:
        del self.workers[worker]

    def _forget_store(self, store: StoreId) -> None:
        del self.stores[store]
        self.prefixes.forget(store)
