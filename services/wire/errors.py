"""What can go wrong between two processes, as a short tree; the one place where grpc's errors become ours.

PeerError
├── PeerUnavailable    nobody answers, the connection broke, or the peer drains: try another one
│   └── PeerFailed     the peer broke while it worked on this call
├── PeerRefused        it will never do this as asked; the message is its sentence
├── PeerBusy           not now: its queue or its memory is full; the message is its sentence
└── DeadlinePassed     the caller's time was up first
WireError              a message that no correct sender makes
CannotListen           this process can't serve at the address it was given
"""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc


class PeerError(Exception):
    """A call to another process did not succeed."""


class PeerUnavailable(PeerError):
    """Nobody answers there, the connection broke, or the peer is ending."""


class PeerFailed(PeerUnavailable):
    """The peer broke while it worked on this call."""


class PeerRefused(PeerError):
    """The peer will never do this as asked; the message is its sentence."""


class PeerBusy(PeerError):
    """The peer has no room now; the message is its sentence."""


class DeadlinePassed(PeerError):
    """The caller's time was up first."""


class WireError(ValueError):
    """Bytes or fields that no correct sender makes; the message is a sentence."""


class CannotListen(Exception):
    """This process can't serve at the address it was given; the message is a sentence."""


BY_STATUS: dict[grpc.StatusCode, type[PeerError]] = {
    grpc.StatusCode.UNAVAILABLE: PeerUnavailable,
    grpc.StatusCode.CANCELLED: PeerUnavailable,
    grpc.StatusCode.ABORTED: PeerUnavailable,
    grpc.StatusCode.FAILED_PRECONDITION: PeerRefused,
    grpc.StatusCode.INVALID_ARGUMENT: PeerRefused,
    grpc.StatusCode.OUT_OF_RANGE: PeerRefused,
    grpc.StatusCode.UNIMPLEMENTED: PeerRefused,
    grpc.StatusCode.PERMISSION_DENIED: PeerRefused,
    grpc.StatusCode.UNAUTHENTICATED: PeerRefused,
    grpc.StatusCode.NOT_FOUND: PeerRefused,
    grpc.StatusCode.RESOURCE_EXHAUSTED: PeerBusy,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlinePassed,
}
"""Every other status (INTERNAL, UNKNOWN, DATA_LOSS) is a PeerFailed."""


UNCONNECTED = {
    "Hostname Verification": "its certificate does not have the name or address that it was called by",
    "certificate has expired": "its certificate has expired",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not of the authority in --tls-ca",
    "WRONG_VERSION_NUMBER": "it does not speak TLS, and this process was given certificates",
    "Connection refused": "nobody listens there",
    "Socket closed": "it hung up at once, as one does that wants TLS and a certificate of its own authority",
}
"""Why there is no connection, in our words, by what gRPC's say of it."""


BY_NUMBER = {status.value[0]: error for status, error in BY_STATUS.items()}


def peer_error(status: int, sentence: str) -> PeerError:
    """What a status of gRPC means, by its number, where a sentence came with it."""
    return BY_NUMBER.get(status, PeerFailed)(sentence)


@contextmanager
def rpc_errors() -> Iterator[None]:
    """Around a call, or around the reading of a stream: raises the tree above in place of grpc's errors."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise BY_STATUS.get(error.code(), PeerFailed)(_sentence(error)) from error


def _sentence(error: grpc.aio.AioRpcError) -> str:
    """Its details; of a connection that can't be made only why, not grpc's address thrice and a status of its own."""
    details = error.details() or error.code().name
    if not details.startswith("failed to connect to all addresses"):
        return details
    known = (words for mark, words in UNCONNECTED.items() if mark in details)
    return f"no connection: {next(known, details.rpartition('error: ')[2])}"
