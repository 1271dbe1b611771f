"""What a placement books: p's queue, d's seat, the links, and the names that their stores will hold."""

from dataclasses import dataclass

from scheduler.beliefs import Beliefs, Booking
from scheduler.coming import Coming
from scheduler.costs import HANDOFF_S
from scheduler.flights import EXPECTED_OUTPUT_TOKENS
from scheduler.forecast import Forecast
from scheduler.links import Copy
from scheduler.pairing import Pair
from scheduler.table import NOBODY
from scheduler.vocabulary import Ask, StoreId

BOOKING_TTL_S = 5.0
"""How long after its predicted time a booking may stand unconfirmed: its gateway must have died before it called."""


@dataclass(frozen=True, slots=True)
class Booker:
    """Writes down in ``beliefs`` what was promised, until reports tell it, an outcome undoes it, or it expires."""

    beliefs: Beliefs

    def book(self, ask: Ask, at: Forecast, pair: Pair, *, now: float) -> None:
        beliefs, computes = self.beliefs, pair.computes
        ttft_s, work_s = float(at.ttft_s[computes]), float(at.work_s[computes])
        expires_s, inline = now + 2.0 * ttft_s + BOOKING_TTL_S, pair.prefill == NOBODY
        blocks = beliefs.blocks(ask)
        seat = Booking(expires_s, work_s if inline else 0.0, seats=1, kv_tokens=ask.tokens, blocks=blocks)
        bookings = {beliefs.worker_at(pair.decode): seat}
        if not inline:
            bookings[beliefs.worker_at(pair.prefill)] = Booking(expires_s, work_s)
        begins_s = now + ttft_s + (0.0 if inline else HANDOFF_S + pair.push_s)
        outputs = min(ask.max_new_tokens, EXPECTED_OUTPUT_TOKENS)
        beliefs.flights.placed(
            ask.request, pair.decode, ask.tokens, begins_s=begins_s, told=not inline, outputs=outputs
        )
        coming, copies = self._moves(ask, at, pair, now)
        beliefs.book(ask.request, bookings, coming=tuple(it for it in coming if it.names), copies=copies, now=now)

    def _moves(self, ask: Ask, at: Forecast, pair: Pair, now: float) -> tuple[list[Coming], list[Copy]]:
        """What both stores will hold, and what their links have to carry for it."""
        computes, ttft_s = pair.computes, float(at.ttft_s[pair.computes])
        here, there = self._store(at, computes), self._store(at, pair.decode)
        source = self.beliefs.store_table.keys[at.source[computes]] if at.source[computes] != NOBODY else None
        coming, copies = [], []
        if here is not None:
            coming.append(Coming(here, ask.names[int(at.reach[computes]) :], now + ttft_s))
            if source is not None:
                copies.append(self._copy(source, here, float(at.copied_bytes[computes])))
        if here is not None and there is not None and here != there:
            coming.append(Coming(there, ask.names[int(at.reach[pair.decode]) :], now + ttft_s + pair.push_s))
            copies.append(self._copy(here, there, float(at.lacked_bytes[pair.decode])))
        return coming, copies

    def _copy(self, source: StoreId, target: StoreId, size_bytes: float) -> Copy:
        send_byte_s, receive_byte_s = self.beliefs.paces.ends(source, target)
        return Copy(source, target, size_bytes * send_byte_s, size_bytes * receive_byte_s)

    def _store(self, at: Forecast, row: int) -> StoreId | None:
        """The store of the worker of this row, while it is alive."""
        return self.beliefs.store_table.keys[at.store[row]] if at.linked[row] else None
