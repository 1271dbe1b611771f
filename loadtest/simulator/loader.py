"""What a sequence finds in its store before it runs: leased, lifted to the device, and given back.

load -> acquire -> taken: all that there is -> lifted -> loaded -> released -> freed
"""

from collections.abc import Callable, Sequence
from functools import partial

from kvstore.vocabulary import Lease, SessionId
from loadtest.simulator.events import Events
from loadtest.simulator.part import Part
from loadtest.simulator.store import Store
from scheduler import estimate
from scheduler.reservation import Load
from scheduler.vocabulary import Profile

WAIT_S = 10.0
"""How long a worker waits for blocks that are on their way to its store."""


class Loader:
    """One session's. private: it does not look into the store.

    loaded: so many blocks of ``Load.missing`` are on the device. freed: their leases are given back.
    """

    def __init__(
        self,
        store: Store,
        session: SessionId,
        profile: Profile,
        events: Events,
        *,
        private: bool,
        loaded: Callable[[Part, Load, int], None],
        freed: Callable[[], None],
    ) -> None:
        self._store, self._session, self._profile, self._events = store, session, profile, events
        self._private, self._loaded, self._freed = private, loaded, freed
        self._copied_s = 0.0
        self._open = True

    def load(self, part: Part, load: Load) -> None:
        if self._private or not load.missing:
            self._lift(part, load, [])
        else:
            self._store.acquire(
                self._session,
                load.missing,
                wait_s=WAIT_S,
                leased=partial(self._lift, part, load),
                handoff=part.running.handed_over,
                source=part.source if load.fetchable else None,
                fetchable=load.fetchable,
            )

    def end(self) -> None:
        """The worker has died, and whatever is under way comes to nobody."""
        self._open = False

    def _lift(self, part: Part, load: Load, leases: Sequence[Lease]) -> None:
        """Copies queue for one another, not for the steps."""
        if not self._open:
            return
        if not part.left:
            part.taken()
        self._copied_s = max(self._events.now, self._copied_s)
        if leases:
            self._copied_s += estimate.transfer_s(self._profile, len(leases) * self._store.layout.block_bytes)
        self._events.at(self._copied_s, partial(self._lifted, part, load, leases))

    def _lifted(self, part: Part, load: Load, leases: Sequence[Lease]) -> None:
        if self._open:
            self._loaded(part, load, len(leases))
            self._store.release(self._session, leases)
            self._freed()
