"""The blocks of a hand-over, at the worker that computes them: slots in its own store, and the push to another's.

Slots are reserved before the first batch, for all of the prompt, and sealed as steps fill them; blocks flow to the
decode worker's store meanwhile. All of it stays held until that worker has its own leases.
"""

from collections.abc import Sequence

from kvstore.names import BlockName
from kvstore.vocabulary import Held, SessionId, SlotRef, Write
from loadtest.simulator.links import Links
from loadtest.simulator.push import Push
from loadtest.simulator.store import Store


class Handoff:
    """names: of the whole prompt, in order."""

    def __init__(self, store: Store, session: SessionId, names: Sequence[BlockName], *, last_is_short: bool) -> None:
        self._store, self._session, self._names, self._last_is_short = store, session, names, last_is_short
        self._granted: dict[BlockName, SlotRef] = {}
        self._held: list[SlotRef] = []
        self._push: Push | None = None
        grants = store.allocate(session, names, last_is_short=last_is_short, hold=True)
        for name, grant in zip(names, grants, strict=True):
            if isinstance(grant, Held):
                self._held.append(grant)
            elif isinstance(grant, Write):
                self._granted[name] = grant

    def push(self, links: Links, target: Store, *, last_bytes: int, computed: int) -> None:
        """Begin to, with the first ``computed`` blocks, which are there; last_bytes: of the last one of all."""
        names, short = self._names, self._last_is_short
        self._push = Push(links, self._store, target, names, last_is_short=short, last_bytes=last_bytes)
        self._push.flow(names[:computed], computed=True)

    def filling(self, names: Sequence[BlockName]) -> None:
        """The step that fills these has begun."""
        if self._push is not None:
            self._push.flow(names, computed=False)

    def filled(self, names: Sequence[BlockName]) -> None:
        """It has ended."""
        self.seal(names)
        if self._push is not None:
            self._push.computed(names)

    def seal(self, names: Sequence[BlockName]) -> None:
        """These are copied to the slots that they were granted, if they were."""
        written = [self._granted.pop(name) for name in names if name in self._granted]
        self._store.seal(self._session, written)
        self._held += written

    def end(self) -> None:
        """The decode worker has its leases, or nobody wants it any more."""
        self.cut()
        self._store.discard(self._session, list(self._granted.values()))
        self._store.release(self._session, self._held)

    def cut(self) -> None:
        """The worker has died: its connection to the other store is gone, and its own session is its store's matter."""
        if self._push is not None:
            self._push.end()
