"""A TCP connection that can be cut, held up and corrupted at a chosen byte."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from kvstore.tcp_sides import split_address
from tests.services.serving import serving


@dataclass
class Cable:
    """Leads to ``target``. What is done to it is done once, to what comes from whoever connects, or goes back.

    cut_at: after so many bytes the connection ends. flip_at: this byte is changed; -1: never. flip_next: a byte
    near the beginning of what is sent next is. stuck_at: from then on nothing passes until it is cut; ``stuck`` is set
    when something should have. dead: whoever connects from now on is hung up on. connections: those
    that came, each from when ``cut`` ends it.
    """

    target: str
    address: str = ""
    cut_at: int = -1
    flip_at: int = -1
    flip_next: bool = False
    stuck_at: int = -1
    stuck: asyncio.Event = field(default_factory=asyncio.Event)
    back: bool = False
    dead: bool = False
    connections: int = 0
    transports: list[asyncio.WriteTransport] = field(default_factory=list)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.dead:
            self.connections += 1
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection(*split_address(self.target))
        self.transports = ours = [writer.transport, there_writer.transport]
        self.connections += 1
        try:
            async with asyncio.TaskGroup() as group:
                ways = [
                    group.create_task(self._carry(reader, there_writer, matters=not self.back)),
                    group.create_task(self._carry(there_reader, writer, matters=self.back)),
                ]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
        finally:
            for transport in ours:  # by now the next connection may be the one that ``cut`` ends
                transport.abort()

    def cut(self) -> None:
        """Now, both ways."""
        for transport in self.transports:
            transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, matters: bool) -> None:
        carried = 0
        with suppress(ConnectionError):
            while data := bytearray(await reader.read(65536)):
                if matters and self.flip_next:
                    data[8] ^= 1
                    self.flip_next = False
                if matters and carried <= self.flip_at < carried + len(data):
                    data[self.flip_at - carried] ^= 1
                    self.flip_at = -1
                if matters and carried <= self.cut_at < carried + len(data):
                    writer.write(data[: self.cut_at - carried])
                    await writer.drain()
                    self.cut_at = -1
                    return
                if matters and 0 <= self.stuck_at < carried + len(data):
                    self.stuck.set()
                    await asyncio.Event().wait()
                carried += len(data)
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def cable(
    target: str, *, cut_at: int = -1, flip_at: int = -1, stuck_at: int = -1, back: bool = False
) -> AsyncIterator[Cable]:
    laid = Cable(target, cut_at=cut_at, flip_at=flip_at, stuck_at=stuck_at, back=back)
    async with serving(laid.connected) as laid.address:
        yield laid
