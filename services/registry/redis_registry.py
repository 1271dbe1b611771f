"""The registry in Redis: announce oneself every second, and read who else is there.

    key moonpool:DEPLOYMENT:KIND:ID = {"address", "host", "incarnation"}    lives 10 s from each renewal
    set moonpool:DEPLOYMENT:KIND    = ids

Nothing waits for Redis: while it is away everybody goes on with what was last known, tries
again with growing pauses, and says so once. A clean end takes the key away.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.registry.entry import Entry, EntryError, Kind, decode, encode, key, roll
from services.registry.known import Known
from services.runtime.logs import fields
from services.runtime.process import Refusal

LIFE_S = 10.0
LOOK_S = 1.0
PAUSES_S = (0.5, 1.0, 2.0, 3.0)
"""After the first failure, the second ..; the last one stays."""

PATIENCE_S = 6.0
"""Longer than anybody takes to announce itself again: the last pause, a time-out, and LOOK_S."""

TIMEOUT_S = 1.0
LEAVE_S = 0.5

AWAY = (RedisError, OSError, TimeoutError)

log = logging.getLogger(__name__)


class RedisRegistry:
    """One process's view of the registry. announce: its own entry, if others look for it."""

    def __init__(
        self,
        url: str,
        deployment: str,
        *,
        announce: Entry | None = None,
        life_s: float = LIFE_S,
        look_s: float = LOOK_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Raises Refusal where the URL is none of Redis."""
        self._client = _client(url)
        self._deployment = deployment
        self._own = announce
        self._life_s = life_s
        self._look_s = look_s
        self._known = Known(patience_s=patience_s)
        self._doubted: set[tuple[Kind, str]] = set()
        self._announced = False
        self.change = asyncio.Event()
        """Set at the next change; then there is another one."""

    def conductors(self, host: str) -> tuple[str, ...]:
        """Targets that this host can call, in the order of their ids."""
        return tuple(each.address for each in self._known.entries(Kind.CONDUCTOR) if each.reachable_from(host))

    def store(self, host: str) -> str | None:
        """The target of this host's store; of several, the first by id."""
        return next((each.address for each in self._known.entries(Kind.STORE) if each.host == host), None)

    async def run(self) -> None:
        """Until cancelled; then the own key is gone."""
        clock = asyncio.get_running_loop().time
        failures = 0
        try:
            while True:
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        await self._announce()
                        entries = await self._look()
                except AWAY as error:
                    if not failures:
                        log.warning("registry away", extra=fields(reason=str(error) or "no answer"))
                    await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
                    failures += 1
                    continue
                if failures:
                    log.info("registry back")
                    failures = 0
                if self._known.heard(entries, now=clock()):
                    self.change.set()
                    self.change = asyncio.Event()
                await asyncio.sleep(self._look_s)
        finally:
            await self._leave()

    async def _announce(self) -> None:
        own = self._own
        if own is None:
            return
        async with self._client.pipeline(transaction=True) as pipe:
            place = key(self._deployment, own.kind, own.id)
            pipe.set(place, encode(own), px=round(self._life_s * 1000), get=True)
            pipe.sadd(roll(self._deployment, own.kind), own.id)
            before, _ = await pipe.execute()
        self._compare(own, before)

    def _compare(self, own: Entry, before: bytes | None) -> None:
        """Once we have announced ourselves, somebody else's entry in that place means that two share an id."""
        try:
            other = None if before is None else decode(own.kind, own.id, before)
        except EntryError:
            return
        mine = other is None or other.incarnation == own.incarnation
        if self._announced and not mine and other is not None:
            log.warning("another %s is called %s too; give each its own --id", own.kind, own.id)
            if other.incarnation > own.incarnation:  # one of the two must give way, or others see both by turns
                self._own = None
        self._announced = True

    async def _look(self) -> list[Entry]:
        entries: list[Entry] = []
        for kind in Kind:
            members = await _answer(self._client.smembers(roll(self._deployment, kind)))
            ids = sorted(member.decode(errors="replace") for member in members)
            if not ids:
                continue
            values = await _answer(self._client.mget([key(self._deployment, kind, id) for id in ids]))
            entries += self._believed(kind, zip(ids, values, strict=True))
            expired = [id for id, value in zip(ids, values, strict=True) if value is None]
            if expired:  # one that lives after all puts itself back with its next renewal
                await _answer(self._client.srem(roll(self._deployment, kind), *expired))
        return entries

    def _believed(self, kind: Kind, found: Iterable[tuple[str, bytes | None]]) -> list[Entry]:
        entries = []
        for id, value in found:
            try:
                if value is not None:
                    entries.append(decode(kind, id, value))
            except EntryError as error:
                if (kind, id) not in self._doubted:
                    self._doubted.add((kind, id))
                    log.warning("an entry of the registry is passed over", extra=fields(id=id, reason=str(error)))
        return entries

    async def _leave(self) -> None:
        """Also when cancelled: nobody should look for us for another ten seconds."""
        try:
            if self._own is not None:
                with suppress(*AWAY):
                    async with asyncio.timeout(LEAVE_S):
                        await self._client.delete(key(self._deployment, self._own.kind, self._own.id))
        finally:
            await self._client.aclose()


def _client(url: str) -> "Redis":
    try:
        # Without retries of its own: that a connection broke is of interest here. Without time-outs of its own: they
        # are asyncio.wait_for, which until Python 3.12 may swallow a cancellation. ``run`` has one around it all.
        return Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=None, socket_connect_timeout=None)
    except ValueError as error:
        raise Refusal(f"--redis-url is no URL of Redis, such as redis://host:6379/0: {error}") from error


async def _answer(asked: Any) -> Any:  # Any: the client's types are of both its forms, with and without asyncio
    return await cast("Awaitable[Any]", asked)
