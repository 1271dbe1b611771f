"""A request's body as an app receives it: in time, whole, decoded, and never longer than it may be.

A body may take ``body_s`` seconds, and one more for each 1,024 bytes of it that have come (as Apache's mod_reqtimeout
counts), so that a slow line is served and a client that stalls is not waited for.
"""

import asyncio

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from services.gateway.errors import ApiError, bad_request, unavailable
from services.gateway.http.compressed import Decoder, decoder
from services.gateway.http.connection import BROKEN

LEAST_BODY_BYTES_PER_S = 1024

SWALLOWED = 8
"""A body this many times too long is read to its end all the same, as most clients read no answer before that."""

MOST_HELD_BYTES = 256 << 20
MOST_HELD_BODIES = 8
"""Of the longest bodies, where these are more bytes."""

UTF_8_BOM = b"\xef\xbb\xbf"
OTHER_UTF = (
    ("UTF-32", (b"\xff\xfe\0\0", b"\0\0\xfe\xff")),
    ("UTF-16", (b"\xff\xfe", b"\xfe\xff")),
)


class Held:
    """Bytes of all bodies that are still coming, so that many clients that stop in the middle hold no more than that:
    a compressed body of 5 KB may stand for 5 MB. What is complete is bounded where it waits (``text_threads.py``)."""

    def __init__(self) -> None:
        self.bytes = 0

    def take(self, count: int, *, max_bytes: int) -> None:
        """max_bytes: of one body. Raises ApiError where there is no room."""
        most = max(MOST_HELD_BYTES, MOST_HELD_BODIES * max_bytes)
        if self.bytes + count > most:
            raise unavailable(f"Bodies of {most >> 20} MiB are being read, as many as this gateway takes at a time.")
        self.bytes += count


class Body:
    """Of one request; ``receive`` is in place of the server's. The caller calls ``close`` at the end."""

    def __init__(self, scope: Scope, receive: Receive, held: Held, *, max_bytes: int, within_s: float) -> None:
        self._state, self._receive, self._held = scope["state"], receive, held
        self._taken = 0
        self._headers = Headers(scope=scope)
        self._max_bytes, self._within_s = max_bytes, within_s
        self._began: float | None = None
        self._came = self._length = 0
        self._decoder: Decoder | None = None
        self._complete = False

    async def receive(self) -> Message:
        """Raises ApiError where the body can't be had."""
        if self._complete:
            return await self._receive()
        if self._began is None:
            self._begin()
        message = await self._in_time()
        if BROKEN in self._state:
            raise self._state[BROKEN]
        if message["type"] != "http.request":
            return message
        self._complete = not message.get("more_body", False)
        self._came += len(message.get("body", b""))
        if self._came > self._max_bytes:
            raise await self._swallowed()
        body: bytes = message.get("body", b"")
        if self._decoder is not None:
            body = await self._decoder.decode(body, self._max_bytes - self._length)
            if self._complete and self._length + len(body) <= self._max_bytes:
                self._decoder.end()
        self._length += len(body)
        if self._length > self._max_bytes:
            raise self._too_long(" when it is decoded")
        if self._complete:
            self.close()
        else:
            self._held.take(len(body), max_bytes=self._max_bytes)
            self._taken += len(body)
        return {"type": "http.request", "body": body, "more_body": not self._complete}

    def close(self) -> None:
        """It is no longer held here."""
        self._held.bytes -= self._taken
        self._taken = 0

    def _begin(self) -> None:
        self._began = asyncio.get_running_loop().time()
        transfer = self._headers.get("transfer-encoding", "chunked").strip().lower()
        if transfer != "chunked":
            # RFC 9112 proposes 501; but a 5xx is an alarm and a line of log, and this is the client's to mend
            raise ApiError(
                415, "Of transfer encodings only chunked is read here.", code="unsupported_transfer_encoding"
            )
        self._decoder = decoder(self._headers.getlist("content-encoding"))
        announced = self._headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self._max_bytes and "expect" in self._headers:
            raise self._too_long("")  # it asks before it sends

    async def _in_time(self) -> Message:
        assert self._began is not None
        deadline = self._began + self._within_s + self._came / LEAST_BODY_BYTES_PER_S
        try:
            async with asyncio.timeout_at(deadline):
                return await self._receive()
        except TimeoutError:
            raise ApiError(
                408,
                f"The body was not complete in time: {self._came} bytes had come after "
                f"{asyncio.get_running_loop().time() - self._began:.0f} s.",
                code="request_timeout",
                about={"connection": "close"},
            ) from None

    async def _swallowed(self) -> ApiError:
        while not self._complete and self._came <= SWALLOWED * self._max_bytes:
            message = await self._in_time()
            if message["type"] != "http.request":
                break
            self._complete = not message.get("more_body", False)
            self._came += len(message.get("body", b""))
        return self._too_long("")

    def _too_long(self, when: str) -> ApiError:
        return ApiError(413, f"The body is longer than {self._max_bytes} bytes{when}.", code="request_too_large")


async def json_bytes(request: Request) -> bytes:
    """The body as UTF-8 without the mark that some editors put before it (RFC 8259, 8.1). Raises ApiError."""
    body = await request.body()
    for name, marks in OTHER_UTF:
        if body.startswith(marks):
            raise _not_utf_8(name)
    if body[:1] == b"\0" or body[1:2] == b"\0":  # the first of a JSON text is ASCII
        raise _not_utf_8("UTF-32" if body[1:3] == b"\0\0" or body[:3] == b"\0\0\0" else "UTF-16")
    return body.removeprefix(UTF_8_BOM)


def _not_utf_8(name: str) -> ApiError:
    return bad_request(f"The body is {name}; JSON is sent as UTF-8.")
