"""A connection between two stores on which bytes are lost or changed, where and when a test says so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum

from tests.services.serving import serving

PORTION = 1 << 16


class Way(Enum):
    """Of bytes, as seen by whoever connected: a fetch's blocks come, a push's blocks go."""

    GOING = "going"
    COMING = "coming"


class Meddler:
    """Passes everything on, at ``address``; its orders are carried out once, ``at`` so many bytes from now on."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._passed = dict.fromkeys(Way, 0)
        self._cut_at: dict[Way, int] = {}
        self._flip_at: dict[Way, int] = {}
        self._dead = self._forever = False
        self._writers: set[asyncio.StreamWriter] = set()
        self.address = ""
        self.done = False
        """The last order was carried out."""

    def cut(self, way: Way, at: int, *, forever: bool = True) -> None:
        """The connection breaks there; forever: nobody can connect any more until ``heal``."""
        self._order()
        self._cut_at[way] = at
        self._forever = forever

    def flip(self, way: Way, at: int) -> None:
        """One bit of that byte."""
        self._order()
        self._flip_at[way] = at

    def heal(self) -> None:
        """No more orders."""
        self._order()

    def _order(self) -> None:
        self._passed = dict.fromkeys(Way, 0)
        self._cut_at.clear()
        self._flip_at.clear()
        self._dead = self.done = False

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Of the server's: one connection from its beginning to its end."""
        if self._dead:
            writer.transport.abort()
            return
        host, _, port = self.target.rpartition(":")
        try:
            other_reader, other_writer = await asyncio.open_connection(host, int(port))
        except ConnectionError:
            writer.transport.abort()
            return
        self._writers |= {writer, other_writer}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass_on(Way.GOING, reader, other_writer))
                tasks.create_task(self._pass_on(Way.COMING, other_reader, writer))
        finally:
            for each in (writer, other_writer):
                self._writers.discard(each)
                each.transport.abort()

    async def _pass_on(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := bytearray(await _read(reader)):
            start, self._passed[way] = self._passed[way], self._passed[way] + len(data)
            flip, cut = self._flip_at.get(way, -1) - start, self._cut_at.get(way, -1) - start
            if 0 <= flip < len(data):
                data[flip] ^= 1
                self.done = True
            if 0 <= cut < len(data):
                writer.write(data[:cut])
                self.done, self._dead = True, self._forever
                break
            writer.write(data)
            await _drain(writer)
        self.close()

    def close(self) -> None:
        """Every connection, as they belong together."""
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def meddler(target: str) -> AsyncIterator[Meddler]:
    made = Meddler(target)
    async with serving(made.connected) as made.address:
        yield made


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(PORTION)
    except ConnectionError:
        return b""


async def _drain(writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        await writer.drain()
