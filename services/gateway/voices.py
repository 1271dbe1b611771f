"""Two ways to tell an answer: chunk by chunk as a stream, or whole at its end."""

from collections.abc import Callable, Mapping
from typing import Protocol

from starlette.types import Send

from services.gateway import sse
from services.gateway.choice import Choice
from services.gateway.errors import ApiError
from services.gateway.generation import Account
from services.gateway.journal import Journal
from services.gateway.shape import Shape, Usage

MOST_FAILED = 8
"""Workers in a header; a stream that finds nobody may fail hundreds of times, mostly at the same ones."""


class Voice(Protocol):
    """Told what each choice says.

    started: something was sent, so it is too late for a status. complete: all of it was sent, so
    that it is no matter any more whether the client leaves.
    """

    started: bool
    complete: bool

    async def say(self, choice: Choice, text: str) -> None:
        """The next text of a choice; the first time for each it may be empty."""

    async def end(self, choice: Choice, text: str) -> None:
        """The last text of a choice."""

    async def fail(self, error: ApiError) -> None:
        """The end of an answer that has started and cannot be completed."""


class StreamVoice:
    """Server-sent events: at most one write for each step, the last of which ends the answer."""

    def __init__(self, send: Send, shape: Shape, journal: Journal, *, usage: bool, continuous_usage: bool) -> None:
        self.started = self.complete = False
        self._send = send
        self._shape = shape
        self._journal = journal
        self._usage = usage
        self._continuous_usage = continuous_usage
        self._open = len(journal.choices)

    async def say(self, choice: Choice, text: str) -> None:
        await self._begin(choice)
        data = self._opening(choice)
        if text:
            data += self._shape.piece(choice.told, text, self._usage_so_far(choice))
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, choice: Choice, text: str) -> None:
        await self._begin(choice)
        data = self._opening(choice) + self._shape.ending(choice.told, text, self._usage_so_far(choice))
        self._open -= 1
        if not self._open:
            data += self._shape.usage(self._journal.usage) if self._usage else b""
            data += sse.DONE
            self.complete = True
        await self._send({"type": "http.response.body", "body": data, "more_body": bool(self._open)})

    async def fail(self, error: ApiError) -> None:
        self.complete = True
        await self._send({"type": "http.response.body", "body": sse.event(error.body) + sse.DONE, "more_body": False})

    async def _begin(self, first: Choice) -> None:
        """first: whoever speaks first; of other prompts nothing may be known yet."""
        if not self.started:
            self.started = True
            headers = {"content-type": sse.CONTENT_TYPE, "cache-control": "no-cache", "x-accel-buffering": "no"}
            headers |= account_headers(first.story.account)
            await self._send({"type": "http.response.start", "status": 200, "headers": raw_headers(headers)})

    def _opening(self, choice: Choice) -> bytes:
        if choice.opened:
            return b""
        choice.opened = True
        return self._shape.opening(choice.told.index)

    def _usage_so_far(self, choice: Choice) -> Usage | None:
        if not self._continuous_usage:
            return None
        account = choice.story.account
        return Usage(choice.prompt_tokens, choice.scribe.count, account.cached_tokens or 0)


class WholeVoice:
    """Keeps it all, and sends one JSON document once the last choice has ended."""

    def __init__(self, send: Send, make_shape: Callable[[], Shape], journal: Journal) -> None:
        self.started = self.complete = False
        self._send = send
        self._make_shape = make_shape
        self._journal = journal
        self._texts: list[list[str]] = [[] for _ in journal.choices]
        self._open = len(journal.choices)

    async def say(self, choice: Choice, text: str) -> None:
        self._texts[choice.told.index].append(text)

    async def end(self, choice: Choice, text: str) -> None:
        pieces = self._texts[choice.told.index]
        pieces.append(text)
        choice.told.text = "".join(pieces)
        self._open -= 1
        if self._open:
            return
        choices = self._journal.choices
        document = self._make_shape().whole([each.told for each in choices], self._journal.usage)
        body = sse.dumps(document).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        headers |= account_headers(choices[0].story.account)
        self.started = self.complete = True
        await self._send({"type": "http.response.start", "status": 200, "headers": raw_headers(headers)})
        await self._send({"type": "http.response.body", "body": body})

    async def fail(self, error: ApiError) -> None:
        raise AssertionError("a whole answer is sent at once, so it cannot fail half-way") from error


def account_headers(account: Account) -> dict[str, str]:
    """Who served it, or was to; what is not known or did not happen is left out."""
    predicted_s = account.predicted_ttft_s
    values = {
        "x-moonpool-prefill": account.prefill,
        "x-moonpool-decode": account.decode,
        "x-moonpool-cached-tokens": account.cached_tokens,
        "x-moonpool-predicted-ttft-ms": None if predicted_s is None else f"{predicted_s * 1000:.1f}",
        "x-moonpool-failed": ", ".join(account.failed[-MOST_FAILED:]) or None,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def raw_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
