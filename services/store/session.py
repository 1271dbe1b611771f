"""One connected worker, and how it is told something."""

from collections.abc import Callable
from dataclasses import dataclass

from kvstore.vocabulary import SessionId
from services.store.liveness import SessionFile
from services.wire.pb.store_pb2 import FromStore


@dataclass(slots=True)
class WorkerSession:
    """session_file: with the worker's lock. send: tell it this; never waits."""

    id: SessionId
    worker: str
    incarnation: int
    session_file: SessionFile
    send: Callable[[FromStore], None]
