"""A run against a live server: look at it, warm it up, offer the workload, watch its pools meanwhile."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp

from loadtest.client import pools
from loadtest.client.http import HttpTarget, session
from loadtest.client.server import Server, ServerError, bodies, forget, look, status_of
from loadtest.driver import Driver, Now, Pace
from loadtest.offered import leaving, warm_ups
from loadtest.record import PoolSample, Record
from loadtest.request import Request
from loadtest.settings import Endpoint, Offer

POLL_S = 1.0
"""Between two looks at a Moonpool's pools."""

WARM_AT_ONCE = 8


@dataclass(slots=True)
class Live:
    """What there was to see. cpu_share: of a core that the harness took while it offered."""

    server: Server
    records: list[Record] = field(default_factory=list)
    samples: list[PoolSample] = field(default_factory=list)
    duration_s: float = 0.0
    cpu_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Listener:
    """Told as it happens. began: the server was looked at, and the run begins."""

    began: Callable[[Server], None] = lambda server: None
    record: Callable[[Record], None] = lambda record: None
    pool: Callable[[PoolSample], None] = lambda sample: None


async def live(
    endpoint: Endpoint,
    offer: Offer,
    requests: Sequence[Request],
    *,
    listener: Listener,
    stop: asyncio.Event,
    clock: Callable[[], float] = time.perf_counter,
    connector: aiohttp.BaseConnector | None = None,
) -> Live:
    """Until all is over, or stop is set. Raises ServerError before anything was measured."""
    async with session(endpoint, connector) as http:
        server = await look(http, endpoint)
        follows = any(request.after is not None for request in requests)
        target = HttpTarget(http, endpoint, await bodies(http, endpoint, server, seed=offer.seed, ids=follows))
        await _warm(target, warm_ups(offer, requests), offer, clock, stop)
        if endpoint.reset_cache:
            await forget(http, endpoint)
        found = Live(server)
        listener.began(server)
        began_s, cpu_s = clock(), time.process_time()

        def now() -> float:
            return clock() - began_s

        def over(record: Record) -> None:
            found.records.append(record)
            listener.record(record)

        watching = asyncio.create_task(_watch(http, endpoint, found, listener, now), name="pools")
        try:
            pace = Pace(offer.max_concurrency, offer.duration_s, leaving(offer, requests))
            await Driver(target, pace, now=now, over=over, stop=stop).run(requests)
        finally:
            found.duration_s = now()
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        found.cpu_share = (time.process_time() - cpu_s) / found.duration_s if found.duration_s > 0.0 else 0.0
        return found


async def _warm(target: HttpTarget, requests: list[Request], offer: Offer, clock: Now, stop: asyncio.Event) -> None:
    """Raises ServerError where not one was answered: a run would only find the same."""
    records: list[Record] = []
    pace = Pace(min(offer.max_concurrency or WARM_AT_ONCE, WARM_AT_ONCE))
    await Driver(target, pace, now=clock, over=records.append, stop=stop).run(requests)
    if records and not stop.is_set() and not any(record.finished for record in records):
        raise ServerError(f"no warm-up was answered: {records[0].cause}: {records[0].detail}")


async def _watch(http: aiohttp.ClientSession, endpoint: Endpoint, found: Live, listener: Listener, now: Now) -> None:
    """A look that fails is a gap in the timeline, no more."""
    while found.server.status_page:
        at_s = now()
        if (status := await status_of(http, endpoint)) is not None:
            for sample in pools.samples(status, at_s=at_s):
                found.samples.append(sample)
                listener.pool(sample)
        await asyncio.sleep(POLL_S)
