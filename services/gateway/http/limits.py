"""What one client's connections and requests may take of the gateway: figures only."""

from dataclasses import dataclass

from services.gateway.errors import ApiError, unavailable

LONGEST_TARGET = 8192
"""Bytes of a path and its query; nginx's and Apache's default."""

LONGEST_HEAD = 65536
"""Bytes of a request's line and headers together; uvicorn's for its other parser."""

MOST_HEADERS = 256
"""vLLM's --h11-max-header-count."""

MOST_PIPELINED = 64
"""Requests that wait on one connection for the answer before them; then it is closed after these."""

LINGER_S = 5.0
"""A connection that is closed while its client still sends is read for so long, else the answer could be lost."""

EVICTABLE_S = 1.0
"""Where there is no room, a connection that has waited so long for a request makes room for a new one."""

LEAST_CONNECTIONS = 16
MOST_CONNECTIONS = 16384
"""Unless more are asked for: an idle one takes 13 KB (measured with 15,000), so 210 MB in all."""

RESERVE = 512
"""Descriptors that are not for clients: calls to workers and conductors, files, the model's among them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """head_s: until a request's head is there. keep_alive_s: between requests. connections: at the same time.

    body_s: for a body, and a second more for each ``LEAST_BODY_BYTES_PER_S`` of it that have come (``body.py``).
    """

    head_s: float = 10.0
    body_s: float = 30.0
    keep_alive_s: float = 620.0
    connections: int = 1024


def connections_for(open_files: int, asked: int | None = None) -> int:
    """The most connections: as asked, or ``MOST_CONNECTIONS``, but never more than the descriptors leave."""
    room = max(LEAST_CONNECTIONS, open_files - min(RESERVE, open_files // 4))
    return min(room, MOST_CONNECTIONS if asked is None else asked)


def bad_head(reason: str) -> ApiError:
    return ApiError(400, f"This is no HTTP/1.1 request: {reason}.", code="bad_request")


def head_too_late(seconds: float) -> ApiError:
    return ApiError(408, f"The request's headers were not complete after {seconds:g} s.", code="request_timeout")


def target_too_long() -> ApiError:
    return ApiError(414, f"The request's path is longer than {LONGEST_TARGET} bytes.", code="uri_too_long")


def head_too_long() -> ApiError:
    return ApiError(431, f"The request's headers are longer than {LONGEST_HEAD} bytes.", code="headers_too_large")


def too_many_headers() -> ApiError:
    return ApiError(431, f"The request has more than {MOST_HEADERS} headers.", code="headers_too_large")


def framing_too_long() -> ApiError:
    return ApiError(400, "The body's chunks are mostly framing.", code="bad_request")


def no_room(connections: int) -> ApiError:
    return unavailable(f"This gateway has {connections} connections, as many as it takes.", code="too_many_connections")
