"""Offers a workload to a target at its times, and never waits for an answer before it sends the next.

Arrivals are open: a slow server gets no fewer requests for being slow. What waits for an answer is only what follows
it, a chat's next turn, and with ``max_concurrency`` whoever finds no seat: its plan begins when the seat is free, so
that the lag is the harness's own in every case, and how long it waited for it is in its record. Whatever happens, each
request that was sent ends as one record.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from loadtest.client.answer import INTERRUPTED, LEFT_MIDWAY, Answer, Offered
from loadtest.record import Record
from loadtest.request import Request

Now = Callable[[], float]
"""Seconds since the run began."""


class Target(Protocol):
    """Whoever answers."""

    def prepare(self, request: Request) -> bytes:
        """What will be sent, made before its time has come."""

    async def ask(self, body: bytes, answer: Answer, now: Now) -> None:
        """Tell ``answer`` all that happens, until it is over or has enough. Raises only what is a bug."""

    def heard(self, request: Request, answer: Answer) -> None:
        """It is over; later prompts may have it in them."""


@dataclass(frozen=True, slots=True)
class Pace:
    """duration_s: nothing is sent after it. leaving: by place, after how many tokens the harness leaves."""

    max_concurrency: int | None = None
    duration_s: float | None = None
    leaving: Mapping[int, int] = field(default_factory=dict)


class Driver:
    """Of one run. over: told each record as the request ends. stop: once set, nothing more is sent, and all is left."""

    def __init__(
        self, target: Target, pace: Pace, *, now: Now, over: Callable[[Record], None], stop: asyncio.Event
    ) -> None:
        self._target, self._pace = target, pace
        self._now, self._over, self._stop = now, over, stop
        self._seats = None if pace.max_concurrency is None else asyncio.Semaphore(pace.max_concurrency)
        self._free_s = deque([0.0] * (pace.max_concurrency or 0))
        """Since when each free seat has been, the longest first."""

        self._requests: Sequence[Request] = ()
        self._followers: dict[int, list[int]] = {}

    async def run(self, requests: Sequence[Request]) -> None:
        """Until every request is over, or stop is set."""
        self._requests = requests
        for place, request in enumerate(requests):
            if request.after is not None:
                self._followers.setdefault(request.after, []).append(place)
        whole = asyncio.create_task(self._whole(), name="workload")
        stopped = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait([whole, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            whole.cancel()
            await asyncio.wait([whole, stopped])
        if not whole.cancelled():
            whole.result()

    async def _whole(self) -> None:
        async with asyncio.TaskGroup() as group:
            first = [(request.at_s, place) for place, request in enumerate(self._requests) if request.after is None]
            for at_s, place in sorted(first):
                body = self._target.prepare(self._requests[place])
                if not await self._turn(at_s):
                    break
                planned_s = await self._seat(at_s)
                if planned_s is None:
                    break
                group.create_task(self._ask(group, place, at_s, planned_s, body), name=f"request {place}")

    async def _follow(self, group: asyncio.TaskGroup, place: int, at_s: float) -> None:
        body = self._target.prepare(self._requests[place])
        if not await self._turn(at_s):
            return
        planned_s = await self._seat(at_s)
        if planned_s is not None:
            await self._ask(group, place, at_s, planned_s, body)

    async def _turn(self, at_s: float) -> bool:
        """When its time has come; False: the run's is over before. Others run at least once meanwhile."""
        end_s = self._pace.duration_s
        if end_s is not None and at_s >= end_s:
            return False
        await asyncio.sleep(0)
        while (early_s := at_s - self._now()) > 0.0:  # noqa: ASYNC110 - a timer may wake a little early
            await asyncio.sleep(early_s)
        return True

    async def _seat(self, at_s: float) -> float | None:
        """When it is to be sent: as planned, or when a seat was free. None: too late for that."""
        if self._seats is None:
            return at_s
        await self._seats.acquire()
        free_s = self._free_s.popleft()
        planned_s = max(at_s, free_s)
        if self._pace.duration_s is None or planned_s < self._pace.duration_s:
            return planned_s
        self._free_s.appendleft(free_s)
        self._seats.release()
        return None

    async def _ask(self, group: asyncio.TaskGroup, place: int, at_s: float, planned_s: float, body: bytes) -> None:
        request = self._requests[place]
        leave_after = self._pace.leaving.get(place)
        answer = Answer(
            Offered(
                place, planned_s, request.input_tokens, request.output_tokens, leave_after, queued_s=planned_s - at_s
            )
        )
        try:
            await self._target.ask(body, answer, self._now)
            if answer.enough:
                answer.left(LEFT_MIDWAY, now=self._now())
        except asyncio.CancelledError:
            answer.left(INTERRUPTED, now=self._now())
            raise
        finally:
            if self._seats is not None:
                self._free_s.append(self._now())
                self._seats.release()
            if answer.begun and answer.over:
                self._over(answer.record())
        assert answer.over, "a target left an answer open"
        if answer.record().finished:
            self._target.heard(request, answer)
            for follower in self._followers.get(place, ()):
                at_s = self._now() + self._requests[follower].at_s
                group.create_task(self._follow(group, follower, at_s), name=f"request {follower}")
