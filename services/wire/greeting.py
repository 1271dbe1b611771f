"""What a worker says before it answers a call: its name, and the deployment that it serves.

An address outlives what listens there: another worker, another model's, or a server that is none of ours may answer,
and may even answer with tokens. So a caller goes by no event and no status of a call before it has read this, which
travels as initial metadata.
"""

from dataclasses import dataclass
from typing import Any

from kvstore.layout import Identity
from services.wire.answering import Context
from services.wire.errors import PeerUnusable

WORKER, FINGERPRINT = "moonpool-worker", "moonpool-fingerprint"


@dataclass(frozen=True, slots=True)
class Greeting:
    """worker: its id. fingerprint: of its deployment, hexadecimal."""

    worker: str
    fingerprint: str

    @classmethod
    def of(cls, worker: str, identity: Identity) -> "Greeting":
        return cls(worker, identity.fingerprint.hex())

    async def send(self, context: Context) -> None:
        """The first thing that a handler does."""
        await context.send_initial_metadata(((WORKER, self.worker), (FINGERPRINT, self.fingerprint)))

    def check(self, metadata: Any) -> None:  # Any: grpc's metadata, or None
        """Raises PeerUnusable unless this is what was sent."""
        said = dict(iter(metadata or ()))
        if WORKER not in said or FINGERPRINT not in said:
            raise PeerUnusable("what answers at its address is no worker of Moonpool's")
        if said[WORKER] != self.worker:
            raise PeerUnusable(f"what answers at its address is {said[WORKER]}")
        if said[FINGERPRINT] != self.fingerprint:
            raise PeerUnusable("what answers at its address serves another deployment (other weights, dtype or layout)")
