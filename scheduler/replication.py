"""Which hot prefixes deserve another holder, and which store should fetch a copy.

A fetch leaves a copy where it went, but only once somebody waits for it. Here a prefix that many ask for gets
its next holder ahead of them. An ask heats the deepest of its names that some store holds, by the prefill seconds
that it costs: questions about one text end there, and what nobody shares is heated once. A prefix deserves a holder
for every ``SHARE`` of a prefill worker that it keeps busy, and one more while all its holders have long queues.

Bounded throughout: ``KEPT`` names are remembered, one prefix is looked at with each look, ``MOST`` copies are under
way, one for each store, none longer than ``MOST_S`` of a link; a copy displaces at most ``ROOM`` of what its target
could evict. A shortage must last ``SUSTAINED_S``, and rests ``COOL_DOWN_S`` after a copy was ordered.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp2, log

import numpy as np

from kvstore.names import BlockName
from scheduler.beliefs import Beliefs
from scheduler.coming import Coming
from scheduler.links import Copy
from scheduler.table import NOBODY, Bools, Floats, Ints
from scheduler.vocabulary import CopyOrder, RequestId, StoreId

HALF_LIFE_S = 30.0
"""Heat fades by half in this time: bursts are shorter, and what is hot stays so for minutes."""

SETTLED_S = 5.0
"""How long asks must have come before their rate is believed."""

KEPT = 4096
"""Names that are remembered, those asked for longest ago forgotten first. At 1,000 asks a second, what is asked for
once in 4 s stays; its heat is a few requests, and there is no more to be seen."""

ASKED = 4.0
"""Asks, faded, from which a prefix is looked at: fewer are no pattern."""

SHARE = 0.5
"""Of one prefill worker's time: a queue in which half is of one kind leaves room for the rest."""

LONG_S = 1.0
"""A wait from which a holder's queue is long: a copy of 8,000 tokens takes as long at 3 GB/s (320 KB each)."""

SUSTAINED_S = 2.0
"""How long a prefix must have lacked a holder: queues of some requests come and go within seconds."""

COOL_DOWN_S = 10.0
"""After a copy of a prefix was ordered: asks must have found it before heat and queues mean anything again."""

MOST = 4
"""Copies under way, in the whole cluster: they share links with what somebody waits for."""

MOST_S = 2.0
"""Of a link, for one copy; of a longer prefix the beginning is copied."""

ROOM = 0.25
"""Of a store's slots that nobody leases or writes: a copy must not cost more than it is worth."""

WITHIN_S = 10.0
"""How long a copy may take, its wait for the links included; then it has failed."""


@dataclass(slots=True)
class Heat:
    """Of one prefix. asks, busy_s: faded, as of at_s. names: of the whole prefix, once it is worth a look."""

    since_s: float
    at_s: float
    asks: float = 0.0
    busy_s: float = 0.0
    names: tuple[BlockName, ...] = ()
    short_since_s: float | None = None
    rests_until_s: float = 0.0

    def add(self, busy_s: float, now: float) -> None:
        kept = exp2((self.at_s - now) / HALF_LIFE_S)
        self.asks, self.busy_s, self.at_s = self.asks * kept + 1.0, self.busy_s * kept + busy_s, now

    def load(self, now: float) -> float:
        """Prefill workers that it keeps busy: in steady state as much is added as fades; before, so much less."""
        busy_s = self.busy_s * exp2((self.at_s - now) / HALF_LIFE_S)
        weight = 1.0 - exp2(-max(now - self.since_s, SETTLED_S) / HALF_LIFE_S)
        return busy_s * log(2.0) / HALF_LIFE_S / weight

    def asked(self, now: float) -> float:
        return self.asks * exp2((self.at_s - now) / HALF_LIFE_S)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A copy that a store was told to make."""

    order: CopyOrder
    target: StoreId
    until_s: float

    @property
    def request(self) -> RequestId:
        """Under which its links and names are booked."""
        return RequestId(f"copy {self.order.id}")


@dataclass(frozen=True, slots=True)
class Sites:
    """By row of the stores' table. able: has a worker that prefills, and can be copied to. wait_s: the least there."""

    able: Bools
    wait_s: Floats
    block_bytes: Floats


class Replication:
    """Told of every ask and looked after now and then; orders wait here until their stores have carried them out.

    ordered, done: copies since the beginning.
    """

    def __init__(self) -> None:
        self.ordered = 0
        self.done = 0
        self._heat: OrderedDict[BlockName, Heat] = OrderedDict()
        self._hot: OrderedDict[BlockName, None] = OrderedDict()
        """Prefixes that are worth a look, the next one first."""
        self._under_way: list[UnderWay] = []

    def asked(self, names: Sequence[BlockName], shared: int, busy_s: float, *, now: float) -> None:
        """Somebody asks for these; some store holds the first ``shared`` of them; prefilling the rest takes busy_s."""
        if not shared:
            return
        key = names[shared - 1]
        heat = self._heat.get(key)
        if heat is None:
            heat = self._heat[key] = Heat(now, now)
            if len(self._heat) > KEPT:
                self._hot.pop(self._heat.popitem(last=False)[0], None)
        self._heat.move_to_end(key)
        heat.add(busy_s, now)
        if heat.asks >= ASKED and not heat.names:
            heat.names = tuple(names[:shared])
            self._hot[key] = None

    def look(self, beliefs: Beliefs, *, now: float) -> None:
        """See what has been copied, and whether the next hot prefix should be."""
        self._see_to_copies(beliefs, now)
        if not self._hot or len(self._under_way) >= MOST:
            return
        key = next(iter(self._hot))
        self._hot.move_to_end(key)
        heat = self._heat[key]
        if heat.asked(now) < ASKED / 2:  # hysteresis: what was worth a look stays so for a half-life
            heat.names, heat.short_since_s = (), None
            del self._hot[key]
        elif heat.rests_until_s <= now:
            self._look_at(heat, beliefs, now)

    def orders(self, store: StoreId) -> tuple[CopyOrder, ...]:
        """What this store is to copy; told again until it has, or the time is over."""
        return tuple(it.order for it in self._under_way if it.target == store)

    def _look_at(self, heat: Heat, beliefs: Beliefs, now: float) -> None:
        sites = _sites(beliefs, now)
        held: Ints = beliefs.prefixes.longest(heat.names).held[beliefs.store_table.column("place")]
        whole = held >= len(heat.names)
        holders = whole & sites.able
        wait_s = float(np.min(sites.wait_s, where=holders, initial=np.inf))
        wanted = ceil(heat.load(now) / SHARE) + (holders.any() and wait_s > LONG_S)
        sources = whole & _reachable(beliefs, now)
        if np.count_nonzero(holders) >= wanted or not sources.any():
            heat.short_since_s = None
            return
        if heat.short_since_s is None:
            heat.short_since_s = now
        if now - heat.short_since_s < SUSTAINED_S:
            return
        source = _least(beliefs.store_table.column("sends_s"), sources)
        target = self._target(heat, beliefs, sites, held, wait_s if holders.any() else np.inf)
        if target is not None:
            self._order(heat, beliefs, sites, source, target, now)

    def _target(self, heat: Heat, beliefs: Beliefs, sites: Sites, held: Ints, holders_wait_s: float) -> int | None:
        """The row of the store whose worker would be free first; None where none is freer than who has it already."""
        busy = {it.target for it in self._under_way}
        able = sites.able & (held < len(heat.names)) & (sites.wait_s < holders_wait_s + LONG_S)
        for row in np.flatnonzero(able):
            store = beliefs.store_table.keys[row]
            able[row] = store is not None and store not in busy and _room(beliefs, store) >= len(heat.names)
        wait_s = sites.wait_s + beliefs.store_table.column("receives_s")
        return _least(wait_s, able) if able.any() else None

    def _order(self, heat: Heat, beliefs: Beliefs, sites: Sites, source: int, target: int, now: float) -> None:
        keys = beliefs.store_table.keys
        target_store, source_store = keys[target], beliefs.reachable(keys[source], now)
        assert target_store is not None and source_store is not None, "both were looked at"  # noqa: PT018
        block_bytes = float(sites.block_bytes[target])
        send_byte_s, receive_byte_s = beliefs.paces.ends(source_store.store, target_store)
        block_s = max(send_byte_s, receive_byte_s) * block_bytes
        names = heat.names[: int(MOST_S / block_s)] if block_s else heat.names
        if not names:
            return
        self.ordered += 1
        under_way = UnderWay(CopyOrder(self.ordered, names, source_store, WITHIN_S), target_store, now + WITHIN_S)
        self._under_way.append(under_way)
        heat.short_since_s, heat.rests_until_s = None, now + COOL_DOWN_S
        seconds, size_bytes = block_s * len(names), block_bytes * len(names)
        stores = beliefs.store_table
        backlog_s = max(float(stores.column("sends_s")[source]), float(stores.column("receives_s")[target]))
        beliefs.book(
            under_way.request,
            {},
            coming=(Coming(target_store, names, now + backlog_s + seconds),),
            copies=[Copy(source_store.store, target_store, send_byte_s * size_bytes, receive_byte_s * size_bytes)],
            now=now,
        )

    def _see_to_copies(self, beliefs: Beliefs, now: float) -> None:
        left = []
        for each in self._under_way:
            names, place = each.order.names, beliefs.prefixes.place(each.target)
            done = int(beliefs.prefixes.longest(names).held[place]) >= len(names)
            self.done += done
            if done or each.until_s <= now or each.target not in beliefs.stores:
                beliefs.unbook(each.request)
            else:
                left.append(each)
        self._under_way = left


def _sites(beliefs: Beliefs, now: float) -> Sites:
    workers, stores = beliefs.worker_table, beliefs.store_table
    since_s = now - beliefs.report_ttl_s
    prefills = workers.column("serving") & workers.column("prefills") & (workers.column("heard_s") >= since_s)
    rows: Ints = workers.column("store")
    wait_s, block_bytes = np.full(len(stores.column("heard_s")), np.inf), np.zeros(len(stores.column("heard_s")))
    np.minimum.at(wait_s, rows[prefills], (workers.column("queue_s") + workers.column("under_way_s"))[prefills])
    np.maximum.at(block_bytes, rows[prefills], workers.column("block_bytes")[prefills])
    wait_s[NOBODY] = np.inf
    return Sites((wait_s < np.inf) & _reachable(beliefs, now), wait_s, block_bytes)


def _reachable(beliefs: Beliefs, now: float) -> Bools:
    stores = beliefs.store_table
    reachable: Bools = stores.column("reachable") & (stores.column("heard_s") >= now - beliefs.report_ttl_s)
    return reachable


def _room(beliefs: Beliefs, store: StoreId) -> int:
    """Blocks that may be displaced there; its free slots are few in any case, since a cache fills what it has."""
    report = beliefs.stores[store].report
    return int(ROOM * max(0, report.slots_total - report.slots_writing - report.leases))


def _least(cost_s: Floats, among: Bools) -> int:
    return int(np.argmin(np.where(among, cost_s, np.inf)))
