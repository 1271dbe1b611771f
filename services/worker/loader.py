"""Before a sequence runs: lease what the store has of its prefix, and reserve room for its handoff.

One task per admitted sequence, cancelled with it. Whatever the store answers belongs
to the ticket already; without a store, or without an answer, everything is computed.
"""

from scheduler.reservation import Load
from services.worker.lent import Leases
from services.worker.reservation import Reservation
from services.worker.store_link import StoreLink
from services.worker.store_session import StoreAway
from services.worker.ticket import Ticket

HANDOFF_WAIT_S = 10.0
"""For blocks of a handoff that are still being written. A prefill gives its first token when it has sealed nearly all,
so this is for a prefill worker that hangs; one that dies is noticed at once."""


class Loader:
    """Asks on behalf of sequences; link None: there is no store."""

    def __init__(self, link: StoreLink | None) -> None:
        self._link = link

    async def lease(self, ticket: Ticket, load: Load) -> list[int]:
        """The slots of the longest prefix of ``load.missing`` there is, leased to the ticket."""
        session = None if self._link is None else self._link.session
        ticket.lend(None)
        if session is None or not load.missing:
            return []
        leases = Leases(session)
        ticket.lend(leases)
        wait_s = HANDOFF_WAIT_S if ticket.sequence.handed_over else 0.0
        try:
            await session.acquire(load.missing, deadline_s=wait_s, leased=leases.add)
        except StoreAway:
            ticket.lend(None)
            return []
        return [lease.slot for lease in leases.held]

    async def reserve(self, ticket: Ticket, load: Load) -> None:
        """Once for each handoff, before its first token: slots for all of its prompt's blocks, or leases on them."""
        session = None if self._link is None else self._link.session
        if session is None or not load.handoff or ticket.handoff is not None:
            return
        ticket.handoff = Reservation(session, load.handoff, last_is_short=load.handoff_short, hold=True)
        try:
            await ticket.handoff.ask()
        except StoreAway:
            ticket.handoff.close()  # the decode worker will find nothing, and compute
