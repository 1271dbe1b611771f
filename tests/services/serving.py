"""A server by hand: what it does with a connection is a coroutine, and its connections end with it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from kvstore.tcp_sides import join_address

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(connected: Connected) -> AsyncIterator[str]:
    """Its address. Whoever is still connected at the end is cut off: since Python 3.12 closing waits for them."""
    stories: set[asyncio.Task[None]] = set()

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await connected(reader, writer)
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stories.add(asyncio.create_task(tell(reader, writer), name="a connection by hand"))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield join_address(*server.sockets[0].getsockname())
    finally:
        server.close()
        for story in stories:
            story.cancel()
        await asyncio.gather(*stories, return_exceptions=True)
        await server.wait_closed()
