"""One connected worker, and what it is about to be told."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from kvstore.vocabulary import SessionId
from services.wire.pb.store_pb2 import FromStore

OUTBOX = 4096
"""Messages that a worker has not read yet. One that reads so slowly loses its session, and may say hello again."""


@dataclass(slots=True)
class WorkerSession:
    """``overflown`` is set when the worker doesn't read what it is told. session_file: the worker's lock."""

    id: SessionId
    worker: str
    incarnation: int
    session_file: Path
    outbox: asyncio.Queue[FromStore] = field(default_factory=lambda: asyncio.Queue(OUTBOX))
    overflown: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, message: FromStore) -> None:
        """Never waits."""
        try:
            self.outbox.put_nowait(message)
        except asyncio.QueueFull:
            self.overflown.set()
