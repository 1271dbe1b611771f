"""What a worker tells each conductor: who it is, and what it is doing right now."""

import os
from dataclasses import dataclass

from kvstore.device import DeviceBlocks
from kvstore.layout import Identity
from scheduler.batching import Batcher
from scheduler.correction import Correction
from scheduler.vocabulary import RequestId, Role, WorkerId, WorkerReport
from services.worker.loop import Loop
from services.worker.store_link import StoreLink


@dataclass(frozen=True, slots=True)
class WorkerReports:
    """Composes the reports of one worker; link None: it has no store."""

    worker: WorkerId
    incarnation: int
    role: Role
    address: str
    identity: Identity
    correction: Correction
    block_bytes: int
    max_num_seqs: int
    max_model_len: int
    batcher: Batcher
    device: DeviceBlocks
    loop: Loop
    link: StoreLink | None

    def compose(self, sequence: int, snapshot: bool) -> WorkerReport:
        """Always whole, so a snapshot is nothing special."""
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
            profile=self.correction.profile(),
            max_num_seqs=self.max_num_seqs,
            max_model_len=self.max_model_len,
            running=state.running,
            waiting=state.waiting,
            prefill_tokens_queued=state.prefill_tokens_queued,
            kv_tokens=state.kv_tokens,
            gpu_blocks_free=self.device.free,
            gpu_blocks_total=self.device.total,
            live=tuple(RequestId(key.rpartition("#")[0]) for key in state.live),
            draining=self.loop.draining,
            block_bytes=self.block_bytes,
            prefills_queued=state.prefills_queued,
            prefill_squares_queued=state.prefill_squares_queued,
        )
