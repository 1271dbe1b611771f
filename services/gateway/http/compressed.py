"""Bodies that clients compress: gzip (RFC 1952) and deflate (RFC 1950; raw RFC 1951 too, which some clients send).

Decoded piece by piece, and never further than a body may be long, so that a small body that stands for a huge one
costs no more than any other. All but the first step run in a thread.
"""

import asyncio
import zlib
from collections.abc import Iterable

from services.gateway.errors import ApiError, bad_request, quoted

STEP_BYTES = 1 << 18
"""Decoded on the event loop: under a millisecond."""

MOST_MEMBERS = 4096
"""That one gzip body may be made of; bgzip makes one of every 64 KiB, so this is 256 MiB of them."""

GZIP, ZLIB, RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS
CODINGS = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}


def decoder(encodings: Iterable[str]) -> "Decoder | None":
    """encodings: the values of Content-Encoding headers. None: it is not compressed. Raises ApiError, 415."""
    named = [each.strip().lower() for value in encodings for each in value.split(",")]
    codings = [each for each in named if each not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1:
        raise _unsupported(
            f"A body that is encoded {len(codings)} times ({quoted(', '.join(codings))}) is not read here"
        )
    if codings[0] not in CODINGS:
        raise _unsupported(f"The body's Content-Encoding {quoted(codings[0])} is not read here")
    return Decoder(CODINGS[codings[0]])


class Decoder:
    """Of one body."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._stream: zlib._Decompress | None = None
        self._input = b""  # not looked at yet
        self._more = False  # whether the next step may give anything
        self._members = 0

    async def decode(self, data: bytes, room: int) -> bytes:
        """What these bytes stand for; where that is more than ``room`` bytes, ``room + 1`` of it. Raises ApiError."""
        self._input += data
        first = self._step(min(room + 1, STEP_BYTES))
        if not self._more or len(first) > room:
            return first
        return first + await asyncio.to_thread(self._steps, room + 1 - len(first))

    def end(self) -> None:
        """There are no more bytes. Raises ApiError where there should be."""
        if self._input or (self._stream is not None and not self._stream.eof):
            raise self._wrong("it ends too early")

    def _steps(self, most: int) -> bytes:
        found = []
        while self._more and most > 0:
            found.append(self._step(min(most, 16 * STEP_BYTES)))
            most -= len(found[-1])
        return b"".join(found)

    def _step(self, most: int) -> bytes:
        stream = self._current()
        if stream is None:
            self._more = False
            return b""
        try:
            found = stream.decompress(self._input, most)
        except zlib.error as error:
            raise self._wrong(str(error).rpartition(": ")[2]) from None
        self._input = stream.unused_data if stream.eof else stream.unconsumed_tail
        self._more = bool(self._input) or (not stream.eof and len(found) == most)  # zlib may hold some of it still
        return found

    def _current(self) -> "zlib._Decompress | None":
        """What decodes the next bytes; None: there are none, or too few to know."""
        if self._stream is not None and not self._stream.eof:
            return self._stream
        if self._stream is not None and self._coding == "gzip":
            self._input = self._input.lstrip(b"\0")  # padding, which gzip itself passes over
        if not self._input or (self._coding == "deflate" and len(self._input) < 2):
            return None
        if self._members == (MOST_MEMBERS if self._coding == "gzip" else 1):
            raise self._wrong("bytes follow its end")
        self._members += 1
        self._stream = zlib.decompressobj(GZIP if self._coding == "gzip" else _deflate(self._input))
        return self._stream

    def _wrong(self, why: str) -> ApiError:
        return bad_request(f"The body is not valid {self._coding}: {why}.")


def _deflate(begin: bytes) -> int:
    """Which of the two, by the check in zlib's header; no encoder writes a raw block that begins like that."""
    return ZLIB if begin[0] & 0x0F == 8 and int.from_bytes(begin[:2]) % 31 == 0 else RAW


def _unsupported(what: str) -> ApiError:
    """As RFC 9110, 15.5.16, has it, with the codings that would do."""
    message = f"{what}; gzip and deflate are."
    return ApiError(415, message, code="unsupported_content_encoding", about={"accept-encoding": "gzip, deflate"})
