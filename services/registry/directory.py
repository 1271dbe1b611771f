"""Where others are, whoever says so: the flags, or a registry. One directory for each process, while it runs."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from services.registry.entry import Entry
from services.registry.redis_registry import RedisRegistry
from services.runtime.settings import MemberSettings


class Directory(Protocol):
    """gRPC targets, as far as they are known now."""

    @property
    def conductors(self) -> tuple[str, ...]:
        """In the one order in which everybody asks them."""

    @property
    def store(self) -> str | None:
        """The store of this process's own host."""

    @property
    def change(self) -> asyncio.Event:
        """Set at the next change; take it before looking, and nothing is missed."""


@dataclass(frozen=True, slots=True)
class Static:
    """What the flags say. It never changes."""

    conductors: tuple[str, ...] = ()
    store: str | None = None
    change: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Found:
    """What the flags say, and for what they leave open the registry. host: whose store is meant."""

    flags: Static
    registry: RedisRegistry
    host: str

    @property
    def conductors(self) -> tuple[str, ...]:
        return self.flags.conductors or self.registry.conductors(self.host)

    @property
    def store(self) -> str | None:
        return self.flags.store or self.registry.store(self.host)

    @property
    def change(self) -> asyncio.Event:
        return self.registry.change


@asynccontextmanager
async def directory(
    settings: MemberSettings,
    *,
    conductors: Sequence[str] = (),
    store: str | None = None,
    announce: Entry | None = None,
) -> AsyncIterator[Directory]:
    """The directory of a process with these settings; ``announce`` is how it is found itself, for as long.

    Raises Refusal where the registry's URL makes no sense. A registry that is away is no error.
    """
    flags = Static(tuple(conductors), store)
    if settings.redis_url is None:
        yield flags
        return
    registry = RedisRegistry(settings.redis_url, settings.deployment, announce=announce)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(registry.run(), name="registry")
        try:
            yield Found(flags, registry, settings.host_name)
        finally:
            task.cancel()
