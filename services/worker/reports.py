"""What a worker tells each conductor: who it is, and what it is doing right now."""

import logging
import os
import time
from dataclasses import dataclass
from math import inf

from kvstore.device import DeviceBlocks
from kvstore.layout import Identity
from scheduler.batching import Batcher
from scheduler.vocabulary import RequestId, Role, WorkerId, WorkerReport
from services.runtime.logs import fields
from services.worker.loop import Loop
from services.worker.store_link import StoreLink

HOLD_S = 20.0
"""A role is kept for so long at least, whatever conductors say; theirs is a minute between two changes."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class WorkerReports:
    """Composes the reports of one worker; link None: it has no store."""

    worker: WorkerId
    incarnation: int
    role: Role
    address: str
    identity: Identity
    block_bytes: int
    max_num_seqs: int
    max_model_len: int
    batcher: Batcher
    device: DeviceBlocks
    loop: Loop
    link: StoreLink | None
    changed_s: float = -inf
    """When it last took another role."""

    def take_role(self, role: Role) -> None:
        """A conductor says so. What runs here goes on, the cache stays, and the next report tells everybody.

        Only between prefill and decode, and not soon again: two conductors may disagree for a moment.
        """
        now = time.monotonic()
        if role is self.role or Role.MIXED in (role, self.role) or now - self.changed_s < HOLD_S:
            return
        log.info("role changed", extra=fields(before=self.role.value, role=role.value))
        self.role, self.changed_s = role, now

    def compose(self, sequence: int, snapshot: bool) -> WorkerReport:
        """Always whole, so a snapshot is nothing special. The profile is the one that the batcher goes by."""
        state = self.batcher.snapshot()
        session = None if self.link is None else self.link.session
        return WorkerReport(
            worker=self.worker,
            incarnation=self.incarnation,
            sequence=sequence,
            role=self.role,
            address=self.address,
            store=None if session is None else session.store,
            pid=os.getpid(),
            identity=self.identity,
            profile=self.batcher.profile,
            max_num_seqs=self.max_num_seqs,
            max_model_len=self.max_model_len,
            running=state.running,
            waiting=state.waiting,
            prefill_tokens_queued=state.prefill_tokens_queued,
            kv_tokens=state.kv_tokens,
            device_blocks_free=self.device.free,
            device_blocks_total=self.device.total,
            live=tuple(RequestId(key.rpartition("#")[0]) for key in state.live),
            draining=self.loop.draining,
            block_bytes=self.block_bytes,
            prefills_queued=state.prefills_queued,
            prefill_squares_queued=state.prefill_squares_queued,
        )
