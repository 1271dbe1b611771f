"""Work for a client only while it is there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

ResultT = TypeVar("ResultT")


class ClientGone(Exception):
    """The client closed its connection before its answer was complete."""


async def while_connected(receive: Receive, work: Coroutine[Any, Any, ResultT], *, name: str) -> ResultT:
    """Run ``work``, cancelled at once when the client leaves (ClientGone). The request's body was read before."""
    task = asyncio.create_task(work, name=name)
    watcher = asyncio.create_task(_gone(receive), name=f"{name}: watch the client")
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return await task
    finally:
        for each in (task, watcher):
            each.cancel()
        await asyncio.wait((task, watcher))
        for each in (task, watcher):
            if not each.cancelled():
                each.exception()  # seen: nobody is left to be told


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
