"""What the conductor believes of the cluster: the latest reports, and what it has itself promised since.

All of it is soft. Reports rebuild it after a restart; who is silent for ``report_ttl_s`` is believed
dead; a placement is *booked* at its workers until a report of theirs lists the request as live, an
outcome undoes it, or it expires. Being wrong costs time, never a token.

What a placement weighs is kept as columns besides (``worker_table``, ``store_table``): each fact is written
there when it comes, so that placing loops over no worker.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from kvstore.layout import Identity
from kvstore.vocabulary import IdentityMismatch
from scheduler import estimate
from scheduler.coming import Coming, ComingIndex
from scheduler.costs import Costs
from scheduler.flights import Flights
from scheduler.links import Copy, Links
from scheduler.paces import Paces
from scheduler.prefixes import NO_STORE, PrefixIndex
from scheduler.table import NOBODY, Table
from scheduler.vocabulary import (
    Ask,
    RequestId,
    Resync,
    Role,
    StoreId,
    StoreReport,
    StoreTarget,
    WorkerId,
    WorkerReport,
)

REMEMBERED = 8
"""Past incarnations of one process whose late reports are recognised as such."""


COMING_S = 1.0
"""How long after its predicted time a block that a placement will make is still expected: reports of it take 0.1 s."""

WORKER = np.dtype(
    [
        ("heard_s", "f8"),
        ("serving", "?"),
        ("prefills", "?"),
        ("decodes", "?"),
        ("dedicated", "?"),  # to prefilling
        ("store", "i8"),  # its row in the other table
        ("context", "f8"),
        ("seats", "f8"),
        ("running", "f8"),
        ("sequences", "f8"),
        ("kv_tokens", "f8"),
        ("blocks_free", "f8"),
        ("blocks_total", "f8"),
        ("block_bytes", "f8"),
        ("queue_s", "f8"),
        ("under_way_s", "f8"),
        ("prefill_s0", "f8"),
        ("prefill_s1", "f8"),
        ("prefill_s2", "f8"),
        ("step_s0", "f8"),
        ("step_s1", "f8"),
        ("step_s2", "f8"),
        ("transfer_s0", "f8"),
        ("transfer_s1", "f8"),
    ]
)
NO_WORKER = (-np.inf, False, False, False, False, NOBODY, *(0.0,) * 18)
"""An empty row: silent for ever."""

STORE = np.dtype(
    [
        ("heard_s", "f8"),
        ("place", "i8"),
        ("reachable", "?"),
        ("sends_s", "f8"),
        ("receives_s", "f8"),
        ("send_byte_s", "f8"),
        ("receive_byte_s", "f8"),
        ("read_byte_s", "f8"),
    ]
)
NO_STORES = (-np.inf, NO_STORE, False, *(0.0,) * 5)


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
    """One worker: its latest report plus bookings."""

    report: WorkerReport
    heard_s: float
    bookings: dict[RequestId, Booking] = field(default_factory=dict)

    def row(self, store: int) -> tuple[object, ...]:
        """Its row of the table; ``store`` is its store's."""
        report, booked, profile = self.report, self.bookings.values(), self.report.profile
        queue_s, seats, kv_tokens, blocks = _queued_s(report), 0, 0, 0
        for booking in booked:
            queue_s += booking.prefill_s
            seats += booking.seats
            kv_tokens += booking.kv_tokens
            blocks += booking.blocks
        return (
            self.heard_s,
            not report.draining,
            report.role.prefills,
            report.role.decodes,
            report.role is Role.PREFILL,
            store,
            report.max_model_len,
            report.max_num_seqs,
            report.running,
            report.running + report.waiting + seats,
            report.kv_tokens + kv_tokens,
            report.device_blocks_free - blocks,
            report.device_blocks_total,
            report.block_bytes,
            queue_s,
            estimate.step_s(profile, report.running, report.kv_tokens) if report.running else 0.0,
            *profile.prefill_s,
            *profile.step_s,
            *profile.transfer_s,
        )


def _queued_s(report: WorkerReport) -> float:
    """The prefills that a worker has queued; taken as equally long where it reports only the sum of their tokens."""
    if not report.prefill_tokens_queued:
        return 0.0
    if report.prefills_queued:
        base, linear, square = report.profile.prefill_s
        squares = square * report.prefill_squares_queued
        return base * report.prefills_queued + linear * report.prefill_tokens_queued + squares
    prompts = max(1, report.waiting)
    return prompts * estimate.prefill_s(report.profile, -(-report.prefill_tokens_queued // prompts))


@dataclass(slots=True)
class StoreBelief:
    """One store: its latest report, without names; lost_track: why, if no snapshot came since."""

    report: StoreReport
    heard_s: float
    lost_track: Resync | None


class Beliefs:
    """Facts in, with the time they were learned; the conductor reads what follows from them."""

    def __init__(self, report_ttl_s: float, costs: Costs = Costs()) -> None:  # noqa: B008 - a value
        self.identity: Identity | None = None
        self.since_s = -np.inf
        """When the first of those who live was heard."""
        self.workers: dict[WorkerId, WorkerBelief] = {}
        self.stores: dict[StoreId, StoreBelief] = {}
        self.worker_table: Table[WorkerId] = Table(WORKER, NO_WORKER)
        self.store_table: Table[StoreId] = Table(STORE, NO_STORES)
        self.prefixes = PrefixIndex()
        self.coming = ComingIndex()
        self.links = Links(self.store_table)
        self.paces = Paces(self.store_table, costs)
        self.flights = Flights()
        self.report_ttl_s = report_ttl_s
        self.drifts = 0
        """How often a store held other names than was believed, though no report of it was missed."""
        self._past: dict[str, deque[int]] = {}
        self._booked: dict[RequestId, tuple[WorkerId, ...]] = {}
        self._coming: dict[RequestId, tuple[Coming, ...]] = {}
        self._overdue: list[tuple[float, RequestId]] = []
        """When what is coming for a request should long be there."""

    def alive(self, heard_s: float, now: float) -> bool:
        return now - heard_s <= self.report_ttl_s

    @property
    def block_tokens(self) -> int:
        assert self.identity is not None, "somebody lives"
        return self.identity.block_tokens

    def blocks(self, ask: Ask) -> int:
        """Of the prompt and the first token."""
        return -(-(ask.tokens + 1) // self.block_tokens)

    def worker_at(self, row: int) -> WorkerId:
        """Whose row of the workers' table it is."""
        worker = self.worker_table.keys[row]
        assert worker is not None, "who was chosen is known"
        return worker

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
        if known.bookings:
            for request in known.bookings.keys() & set(report.live):
                del known.bookings[request]
        self._recount(report.worker)

    def store_reported(self, report: StoreReport, *, now: float) -> Resync | None:
        """Why it should send all its names next, if it should. Raises IdentityMismatch."""
        if report.identity is not None:
            self._check(report.identity, now)
        if self._is_past(report.store, report.incarnation):
            return None
        known = self.stores.get(report.store)
        if known is not None and report.incarnation != known.report.incarnation:
            self._bury(report.store, known.report.incarnation)
            self._forget_store(report.store)
            known = None
        if known is not None and report.sequence <= known.report.sequence:
            return known.lost_track
        if report.snapshot:
            self.prefixes.forget(report.store)
        # Deltas behind a gap are applied too: they are as true as before, and what was missed is asked for.
        self.prefixes.gained(report.store, report.gained)
        self.prefixes.lost(report.store, report.lost)
        self.prefixes.gained(report.store, report.ssd_gained, ssd=True)
        self.prefixes.lost(report.store, report.ssd_lost, ssd=True)
        lost_track = self._lost_track(report, known)
        self.drifts += lost_track is Resync.DRIFT and (known is None or known.lost_track is None)
        carried = report.carried
        if report.gained or report.lost or report.ssd_gained or report.ssd_lost or carried:
            report = replace(report, gained=(), lost=(), ssd_gained=(), ssd_lost=(), carried=())
        self.stores[report.store] = StoreBelief(report, now, lost_track)
        self._describe(report, now)
        self.paces.carried(report.store, carried)
        return lost_track

    def _lost_track(self, report: StoreReport, known: StoreBelief | None) -> Resync | None:
        """Whether what is believed of this store, this report included, may be other than what it holds."""
        if not report.snapshot:
            if known is None or report.sequence != known.report.sequence + 1:
                return Resync.GAP
            if known.lost_track is not None:
                return known.lost_track
        if report.digests is not None and report.digests != self.prefixes.digests(report.store):
            return Resync.DRIFT
        return None

    def _describe(self, report: StoreReport, now: float) -> None:
        """Its row. A store that is new gives the workers that waited for it theirs."""
        new = self.store_table.row(report.store) == NOBODY
        row = self.store_table.add(report.store)
        rows = self.store_table.rows
        rows["heard_s"][row], rows["reachable"][row] = now, bool(report.transfer_address)
        rows["place"][row] = self.prefixes.place(report.store)
        if new:
            self.paces.came(report.store)
            for worker, belief in self.workers.items():
                if belief.report.store == report.store:
                    self._recount(worker)

    def _recount(self, worker: WorkerId) -> None:
        """To be called whenever its report, a booking or its store's row has changed."""
        belief = self.workers[worker]
        row = self.worker_table.add(worker)
        self.worker_table.rows[row] = belief.row(self.store_table.row(belief.report.store))

    def _check(self, identity: Identity, now: float) -> None:
        if identity == self.identity:
            return
        if self.identity is not None and self.identity.differences(identity) is not None:
            self.expire(now=now)  # nobody may be left who would disagree
        if self.identity is None:
            self.identity, self.since_s = identity, now
        differences = self.identity.differences(identity)
        if differences is not None:
            raise IdentityMismatch(differences)

    def _bury(self, process: str, incarnation: int) -> None:
        self._past.setdefault(process, deque(maxlen=REMEMBERED)).append(incarnation)

    def _is_past(self, process: str, incarnation: int) -> bool:
        return incarnation in self._past.get(process, ())

    # -- bookings -----------------------------------------------------------------------------------------------

    def book(
        self,
        request: RequestId,
        bookings: dict[WorkerId, Booking],
        *,
        coming: tuple[Coming, ...] = (),
        copies: list[Copy] | None = None,
        now: float = 0.0,
    ) -> None:
        """Replaces what was booked for an earlier placement of this request."""
        self.unbook(request)
        for worker, booking in bookings.items():
            self.workers[worker].bookings[request] = booking
            self._recount(worker)
        self._booked[request] = tuple(bookings)
        if copies:
            self.links.book(request, copies, now=now)
        if coming:
            self._coming[request] = coming
            for each in coming:
                self.coming.add(each)
            heapq.heappush(self._overdue, (max(each.ready_s for each in coming) + COMING_S, request))

    def unbook(self, request: RequestId) -> None:
        """Undo what a request has booked, wherever that still stands."""
        for worker in self._booked.pop(request, ()):
            self._drop(worker, request)
        self.links.unbook(request)
        self._came(request)

    def handed_over(self, request: RequestId) -> None:
        """Its prefill is done and its KV has come; what it has booked for its decode stays."""
        for worker in self._booked.get(request, ()):
            belief = self.workers.get(worker)
            if belief is not None and request in belief.bookings and not belief.bookings[request].seats:
                self._drop(worker, request)
        self.links.unbook(request)

    def _drop(self, worker: WorkerId, request: RequestId) -> None:
        belief = self.workers.get(worker)
        if belief is not None and belief.bookings.pop(request, None) is not None:
            self._recount(worker)

    def _came(self, request: RequestId) -> None:
        for each in self._coming.pop(request, ()):
            self.coming.remove(each)

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
                self._recount(belief.report.worker)
        self._booked = {request: at for request, at in self._booked.items() if self._stands(request, at)}
        self.catch_up(now=now)
        self.flights.expire(now=now)
        self.paces.look(now=now)
        self.prefixes.sweep()
        if not self.workers and not self.stores:
            self.identity = None

    def catch_up(self, *, now: float) -> None:
        """Copies and blocks whose time has come are over and there, or will never be."""
        self.links.expire(now=now)
        while self._overdue and self._overdue[0][0] <= now:
            request = heapq.heappop(self._overdue)[1]
            if all(each.ready_s + COMING_S <= now for each in self._coming.get(request, ())):
                self._came(request)  # and not placed again since

    def _stands(self, request: RequestId, at: tuple[WorkerId, ...]) -> bool:
        return any(worker in self.workers and request in self.workers[worker].bookings for worker in at)

    def _forget_worker(self, worker: WorkerId) -> None:
        del self.workers[worker]
        self.flights.worker_left(self.worker_table.remove(worker))

    def _forget_store(self, store: StoreId) -> None:
        del self.stores[store]
        self.prefixes.forget(store)
        self.paces.leaves(store)
        self.store_table.remove(store)
        for worker, belief in self.workers.items():
            if belief.report.store == store:
                self._recount(worker)
