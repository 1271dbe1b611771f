"""One connected worker, and how it is told something."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvstore.vocabulary import SessionId
from services.wire.pb.store_pb2 import FromStore


@dataclass(slots=True)
class WorkerSession:
    """session_file: the worker's lock. send: tell it this; never waits."""

    id: SessionId
    worker: str
    incarnation: int
    session_file: Path
    send: Callable[[FromStore], None]
