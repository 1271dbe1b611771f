"""The store's arena as the model thread sees it: mapped under one session's epoch, or not at all.

Only the model thread touches it. A session's epoch is never used again, so a slot
number from an earlier session is told apart before it is read or written: that,
and nothing in shared memory, is what keeps a stale slot from becoming a wrong token.
"""

from engine.port import Engine
from kvstore.arena import Arena
from kvstore.checksum import slot_checksum

NO_EPOCH = 0


class ArenaMap:
    """What ``epoch`` says is mapped; NO_EPOCH when nothing is."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._arena: Arena | None = None
        self.epoch = NO_EPOCH

    def map(self, arena: Arena, epoch: int) -> None:
        """Take over ``arena`` (and close it later); replaces an earlier one."""
        self.unmap()
        self._engine.attach(arena.view, self._engine.layout.slot_bytes)
        self._arena, self.epoch = arena, epoch

    def unmap(self) -> None:
        """From here on no job touches a slot of the session that was mapped; idempotent."""
        self.epoch = NO_EPOCH
        if self._arena is not None:
            self._engine.detach()
            self._arena.close()
            self._arena = None

    def checksum(self, slot: int) -> int:
        """Of the block that lies in this slot now."""
        assert self._arena is not None
        return slot_checksum(self._arena.view, slot, self._engine.layout)
