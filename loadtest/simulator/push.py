"""A hand-over between hosts: blocks of a prompt flow to the decode worker's store while they are computed.

Layer by layer in the real thing: a chunk's bytes begin to flow with the step that computes it and can't be whole
before that step ends. Blocks stay leased there until the decode worker has its own leases.
"""

from collections.abc import Sequence
from functools import partial

from kvstore.names import BlockName
from kvstore.vocabulary import SlotRef, Write
from loadtest.simulator.links import Links
from loadtest.simulator.store import Store


class Push:
    """names: of the whole prompt, in order; block_bytes, last_bytes: of a full block, and of the last one."""

    def __init__(
        self,
        links: Links,
        source: Store,
        target: Store,
        names: Sequence[BlockName],
        *,
        last_is_short: bool,
        last_bytes: int,
    ) -> None:
        self._links, self._source, self._target = links, source, target
        self._session = target.join(f"push from {source.name}")
        grants = target.allocate(self._session, names, last_is_short=last_is_short, hold=True)
        self._granted: dict[BlockName, SlotRef] = {
            name: grant for name, grant in zip(names, grants, strict=True) if isinstance(grant, Write)
        }
        self._last, self._missing_bytes = names[-1], target.layout.block_bytes - last_bytes
        self._computed: set[BlockName] = set()
        self._arrived: set[BlockName] = set()
        self._open = True

    def flow(self, names: Sequence[BlockName], *, computed: bool) -> None:
        """These begin to flow. computed: they were there before, so are whole when their last byte has come."""
        wanted = [name for name in names if name in self._granted]
        if computed:
            self._computed.update(wanted)
        if wanted:
            size = len(wanted) * self._target.layout.block_bytes
            if wanted[-1] == self._last:
                size -= self._missing_bytes
            self._links.send(self._source.name, self._target.name, size, partial(self._come, wanted))

    def computed(self, names: Sequence[BlockName]) -> None:
        """The step that fills these has ended."""
        wanted = [name for name in names if name in self._granted]
        self._computed.update(wanted)
        self._seal(wanted)

    def end(self) -> None:
        """The decode worker has its leases, or nobody wants it any more."""
        if self._open:
            self._open = False
            self._target.end(self._session)

    def _come(self, names: Sequence[BlockName]) -> None:
        self._arrived.update(names)
        self._seal(names)

    def _seal(self, names: Sequence[BlockName]) -> None:
        if not self._open:
            return
        whole = [name for name in names if name in self._computed and name in self._arrived and name in self._granted]
        self._target.seal(self._session, [self._granted.pop(name) for name in whole])
