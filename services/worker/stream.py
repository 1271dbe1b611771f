"""The tokens of one request on their way from the loop to its call.

The loop puts and never waits; the call takes whatever has come since it last looked. A
reader that is slow gets its tokens in larger portions, and at most its token limit's worth.
"""

import asyncio
from dataclasses import dataclass

from scheduler.progress import FirstToken, Progress
from scheduler.vocabulary import FinishReason


class StreamBroken(Exception):
    """The worker can't continue this stream: its engine has failed. The message is a sentence."""


class StreamCut(StreamBroken):
    """The worker won't continue this stream, since it is ending; another one can."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Tokens that have come since the last portion; never empty. first: with the first portion of a stream."""

    tokens: tuple[int, ...]
    first: FirstToken | None
    finish: FinishReason | None


class TokenStream:
    """One writer, one reader."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._first: FirstToken | None = None
        self._finish: FinishReason | None = None
        self._broken: StreamBroken | None = None
        self._missing: int | None = None
        self._ending = False
        self._news = asyncio.Event()

    def confirm(self, missing_blocks: int) -> None:
        """What the store holds of the request is known; a second time, after a preemption, is no news."""
        if self._missing is None:
            self._missing = missing_blocks
            self._news.set()

    def last_step(self) -> None:
        """The step that gives the first token has begun."""
        self._ending = True
        self._news.set()

    def put(self, progress: Progress) -> None:
        self._tokens.append(progress.token)
        self._first = progress.first or self._first
        self._finish = progress.finish
        self._news.set()

    def fail(self, error: StreamBroken) -> None:
        """The reader gets this next; what it has not read is lost."""
        self._broken = error
        self._news.set()

    async def confirmed(self) -> int:
        """Blocks that have to be computed here although they were expected. Raises StreamBroken."""
        while self._missing is None:
            await self._wait()
        return self._missing

    async def first_comes(self) -> None:
        """Returns when the step that gives the first token has begun. Raises StreamBroken."""
        while not self._ending:
            await self._wait()

    async def next(self) -> Portion:
        """Raises StreamBroken. Not to be called again after a portion with ``finish``."""
        while not self._tokens:
            await self._wait()
        portion = Portion(tuple(self._tokens), self._first, self._finish)
        self._tokens.clear()
        self._first = None
        return portion

    async def _wait(self) -> None:
        self._check()
        self._news.clear()
        await self._news.wait()
        self._check()

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken
