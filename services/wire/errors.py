"""What can go wrong between two processes, as a short tree; the one place where grpc's errors become ours.

PeerError
├── PeerUnavailable    nobody answers, the connection broke, or the peer drains: try another one
│   ├── PeerFailed     the peer broke while it worked on this call
│   └── PeerUnusable   something else answers there, or a certificate is not as it should be: it may last
├── PeerRefused        it will never do this as asked; the message is its sentence
│   └── PeerDiffers    since it is of another deployment
├── PeerBusy           not now: its queue or its memory is full; the message is its sentence
└── DeadlinePassed     the caller's time was up first
WireError              a message that no correct sender makes
CannotListen           this process can't serve at the address it was given

A status says something of the call only where one of our own servers has sent it. They mark theirs (``MARK``, in the
trailing metadata): grpc's own libraries, proxies and strangers use the same statuses. Without the mark a status is
about the connection or the peer, never about the request.
"""

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import grpc

AnswerT = TypeVar("AnswerT")


class PeerError(Exception):
    """A call to another process did not succeed."""


class PeerUnavailable(PeerError):
    """Nobody answers there, the connection broke, or the peer is ending."""


class PeerFailed(PeerUnavailable):
    """The peer broke while it worked on this call."""


class PeerUnusable(PeerUnavailable):
    """What answers there is not the peer that was meant, or is none that this process may trust."""


class PeerRefused(PeerError):
    """The peer will never do this as asked; the message is its sentence."""


class PeerDiffers(PeerRefused):
    """The peer is of another deployment; the message says what differs."""


class PeerBusy(PeerError):
    """The peer has no room now; the message is its sentence."""


class DeadlinePassed(PeerError):
    """The caller's time was up first."""


class WireError(ValueError):
    """Bytes or fields that no correct sender makes; the message is a sentence."""


class CannotListen(Exception):
    """This process can't serve at the address it was given; the message is a sentence."""


MARK = ("moonpool-error", "1")
"""What our servers add to a status, in its trailing metadata."""

BY_STATUS: dict[grpc.StatusCode, type[PeerError]] = {
    grpc.StatusCode.UNAVAILABLE: PeerUnavailable,
    grpc.StatusCode.CANCELLED: PeerUnavailable,
    grpc.StatusCode.ABORTED: PeerUnavailable,
    grpc.StatusCode.FAILED_PRECONDITION: PeerDiffers,
    grpc.StatusCode.INVALID_ARGUMENT: PeerRefused,
    grpc.StatusCode.OUT_OF_RANGE: PeerRefused,
    grpc.StatusCode.RESOURCE_EXHAUSTED: PeerBusy,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlinePassed,
}
"""Of our own servers. Every other status (INTERNAL, UNKNOWN, DATA_LOSS) is a PeerFailed."""

UNCONNECTED = {
    "Hostname Verification": "its certificate does not have the name or address that it was called by",
    "certificate has expired": "its certificate has expired",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not of the authority in --tls-ca",
    "WRONG_VERSION_NUMBER": "it does not speak TLS, and this process was given certificates",
    "Connection refused": "nobody listens there",
    "Socket closed": "it hung up at once, as one does that wants TLS and a certificate of its own authority",
    "http1.x": "what answers there speaks HTTP/1, so it is no process of Moonpool's",
}
"""Why there is no connection, in our words, by what gRPC's say of it."""


NOT_THERE = (UNCONNECTED["Connection refused"], "No such file or directory")
"""What is said of an address where nothing listens: a process that starts again, or has not started yet."""

BY_NUMBER = {status.value[0]: error for status, error in BY_STATUS.items()}


def peer_error(status: int, sentence: str) -> PeerError:
    """What a status of gRPC means, by its number, where a sentence came with it."""
    return BY_NUMBER.get(status, PeerFailed)(sentence)


@contextmanager
def rpc_errors() -> Iterator[None]:
    """Around a call: raises the tree above in place of grpc's errors."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise named(error) from error


async def answer_to(call: Awaitable[AnswerT]) -> AnswerT:
    """The answer to a call that has one. Raises PeerError.

    Of bytes that are no such message grpc.aio (1.85) makes None, with nothing but a line in the log.
    """
    with rpc_errors():
        answer = await call
    if answer is None:
        raise PeerUnusable("what it answers is no message of ours")
    return answer


def named(error: grpc.aio.AioRpcError, *, greeted: bool = False) -> PeerError:
    """greeted: whether the peer has shown in this call that it is one of ours, so that whatever ends it is its own."""
    code, sentence = error.code(), _sentence(error)
    if greeted or MARK in {(key, value) for key, value in error.trailing_metadata() or ()}:
        return BY_STATUS.get(code, PeerFailed)(sentence)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlinePassed(sentence)
    # A connection that breaks before the peer has said anything looks like a proxy that has no server behind it.
    nothing_there = _unconnected(error) and any(words in sentence for words in NOT_THERE)
    return PeerUnavailable(sentence) if nothing_there else PeerUnusable(sentence)


def _unconnected(error: grpc.aio.AioRpcError) -> bool:
    return (error.details() or "").startswith("failed to connect to all addresses")


def _sentence(error: grpc.aio.AioRpcError) -> str:
    """Its details; of a connection that can't be made only why, not grpc's address thrice and a status of its own."""
    details = error.details() or error.code().name
    if not _unconnected(error):
        return details
    known = (words for mark, words in UNCONNECTED.items() if mark in details)
    return f"no connection: {next(known, details.rpartition('error: ')[2])}"
