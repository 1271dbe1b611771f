"""Requests byte by byte, and all that comes back."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

BODY = json.dumps({"model": "toy", "prompt": "hello", "max_tokens": 2}).encode()


def head(line: str = "POST /v1/completions", *headers: str, host: str = "localhost") -> bytes:
    lines = [f"{line} HTTP/1.1", f"Host: {host}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def post(body: bytes = BODY, *headers: str) -> bytes:
    return head("POST /v1/completions", f"Content-Length: {len(body)}", *headers) + body


def chunked(pieces: Sequence[bytes], *headers: str, trailer: bytes = b"") -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head("POST /v1/completions", "Transfer-Encoding: chunked", *headers) + framed + b"0\r\n" + trailer + b"\r\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. closed: nothing can come after it."""

    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool = False

    @property
    def error(self) -> dict[str, Any]:
        """In OpenAI's shape."""
        document = json.loads(self.body)
        assert set(document) == {"error"}
        assert set(document["error"]) == {"message", "type", "param", "code"}
        assert document["error"]["message"].endswith(".")
        found: dict[str, Any] = document["error"]
        return found


class Wire:
    """A connection to a gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def reply(self) -> Reply:
        """The next answer that is no 100."""
        async with asyncio.timeout(10):
            top = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = top.strip().split("\r\n")
            status = int(first.split()[1])
            if status == 100:
                return await self.reply()
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
            closed = headers.get("connection") == "close" and await self._reader.read() == b""
            return Reply(status, headers, body, closed)

    async def ended(self) -> bool:
        """Once nothing more comes; whether nothing came."""
        async with asyncio.timeout(10):
            return await self._reader.read() == b""

    def leave(self) -> None:
        self._writer.transport.abort()


async def wire(url: str) -> Wire:
    parts = urlsplit(url)
    return Wire(*await asyncio.open_connection(parts.hostname, parts.port))


async def asked(url: str, request: bytes) -> Reply:
    """The first answer to these bytes."""
    connection = await wire(url)
    try:
        connection.send(request)
        return await connection.reply()
    finally:
        connection.leave()
