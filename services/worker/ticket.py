"""One request on this worker: who it is, where its tokens go, and what is lent to it.

Made when its call comes in and left when the call ends; the batcher may be done with it
much earlier (a prefill that waits for its handoff) or a step later (a cancelled one).
"""

import asyncio
from dataclasses import dataclass, field

from scheduler.sequence import Running
from scheduler.vocabulary import Lifted, RequestId, StoreTarget
from services.worker.lent import Leases
from services.worker.push import Push
from services.worker.reservation import Reservation
from services.worker.stream import TokenStream


@dataclass(slots=True, eq=False)
class Ticket:
    """request: the cluster's id. sequence: the batcher's, by an id of this worker's own: a request may come twice.

    push_to: the store of whoever it is handed over to. source: the store that may have what the own one lacks.
    begun: no token is awaited from elsewhere. lifted: what its first load brought, None until then.
    """

    request: RequestId
    sequence: Running
    push_to: StoreTarget | None = None
    source: StoreTarget | None = None
    stream: TokenStream = field(default_factory=TokenStream)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    leases: Leases | None = None
    handoff: Reservation | None = None
    push: Push | None = None
    load: "asyncio.Task[None] | None" = None
    lifted: Lifted | None = None
    left: bool = False

    @property
    def key(self) -> RequestId:
        """The batcher's name for it."""
        return self.sequence.request

    def lend(self, leases: Leases | None) -> None:
        """From now on these; the earlier ones are given back."""
        if self.leases is not None:
            self.leases.close()
        self.leases = leases

    def leave(self) -> None:
        """Everything goes back, at once or when the present job is done with it. Idempotent."""
        self.left = True
        if self.load is not None:
            self.load.cancel()
        self.lend(None)
        if self.push is not None:
            self.push.close()
        if self.handoff is not None:
            self.handoff.close()
