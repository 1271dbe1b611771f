"""What one answer says, as it comes: told bytes and the time, it ends as a record. Sans-IO.

    waiting --sent--> asked --head(200)--> streaming --[DONE]--> over: finished
                        |                      '--error event, end before its end, connection lost--> over: failed
                        '--head(429, 503), body--> over: refused        any other status --> over: failed

Only chunks with content count as tokens: a role, an empty text, a finish reason or a usage brings none. All that is in
one read came at one time, so two chunks in it have a gap of 0: that is what a reader of the stream saw.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from loadtest.client.sse import Events, SseError
from loadtest.record import Chunk, Outcome, Record

MS = 1e-3
REFUSALS = (429, 503)
DONE = b"[DONE]"
MOST_DETAIL = 300
"""Characters of a server's sentence that a record keeps."""

MOST_BODY = 1 << 16
"""Bytes of an error's body that are looked at."""

LEFT_MIDWAY = "left midway"
INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Offered:
    """What the harness plans. leave_after: so many tokens, and then it leaves; None: it stays.

    queued_s: how long it waited for a seat before that.
    """

    place: int
    planned_s: float
    input_tokens: int
    max_tokens: int
    leave_after: int | None = None
    queued_s: float = 0.0


class Answer:
    """Of one request. ``now`` is seconds since the run began.

    token_ids: of the answer, where the server tells them. begun: it was sent.
    """

    def __init__(self, offered: Offered) -> None:
        self._offered = offered
        self._events = Events()
        self._chunks: list[Chunk] = []
        self._told: dict[str, Any] = {}  # fields of the record
        self._body = b""
        self._tokens = 0
        self._ended: tuple[Outcome, float] | None = None
        self.token_ids: list[int] = []
        self.sent_s = offered.planned_s
        self.begun = False

    @property
    def over(self) -> bool:
        return self._ended is not None

    @property
    def enough(self) -> bool:
        """Whether the harness leaves now."""
        return not self.over and self._offered.leave_after is not None and self._tokens >= self._offered.leave_after

    # -- what happens -------------------------------------------------------------------------------------------

    def sent(self, *, now: float) -> None:
        self.sent_s, self.begun = now, True

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self._told |= {"status": status, **_from_headers(headers)}

    def feed(self, data: bytes, *, now: float) -> None:
        if self.over:
            return
        if self._told["status"] != 200:
            self._body += data[: MOST_BODY - len(self._body)]
            return
        try:
            for event in self._events.feed(data):
                self._event(event, now)
        except (SseError, ValueError, TypeError, AttributeError, LookupError) as error:
            self.broke("malformed stream", f"{type(error).__name__}: {error}", now=now)

    def ended(self, *, now: float) -> None:
        """The server has closed the stream, in order."""
        if self.over:
            return
        status = self._told["status"]
        if status != 200:
            cause, detail = _error(_json(self._body), f"http {status}")
            self._end(Outcome.REFUSED if status in REFUSALS else Outcome.FAILED, now, cause, detail)
        elif self._told.get("finish_reason") is None:
            self._end(Outcome.FAILED, now, "stream ended early", f"after {len(self._chunks)} chunks")
        else:
            self._finish(now)

    def broke(self, cause: str, detail: str, *, now: float) -> None:
        """The connection, or our patience. After the end of a stream it is no matter any more."""
        if not self.over:
            self._end(Outcome.FAILED, now, cause, detail)

    def left(self, cause: str, *, now: float) -> None:
        """By the harness."""
        if not self.over:
            self._end(Outcome.CANCELLED, now, cause, "")

    def record(self) -> Record:
        """What became of it, once it is over."""
        assert self._ended is not None, "it is not over"
        outcome, ended_s = self._ended
        offered = self._offered
        plain = Record(
            offered.place, offered.planned_s, self.sent_s, offered.input_tokens, offered.max_tokens, outcome, ended_s
        )
        return replace(plain, chunks=tuple(self._chunks), queued_s=offered.queued_s, **self._told)

    # -- events -------------------------------------------------------------------------------------------------

    def _event(self, data: bytes, now: float) -> None:
        if self.over:
            return
        if data == DONE:
            self._finish(now)
            return
        document = json.loads(data)
        if document.get("error"):
            self.broke(*_error(document, "error event"), now=now)
            return
        usage = document.get("usage") or {}
        for choice in document.get("choices", ()):
            self._choice(choice, usage, now)
        if usage:
            self._usage(usage)

    def _choice(self, choice: dict[str, Any], usage: dict[str, Any], now: float) -> None:
        ids = choice.get("token_ids") or ()
        self.token_ids += ids
        if choice.get("finish_reason"):
            self._told["finish_reason"] = choice["finish_reason"]
        if not _has_content(choice):
            return
        # A server that says how far it is says so in every chunk; else its ids are counted, and else it is one.
        tokens = usage.get("completion_tokens", 0) - self._tokens if usage else len(ids)
        tokens = max(1, tokens)
        self._tokens += tokens
        self._chunks.append(Chunk(now - self.sent_s, tokens))

    def _usage(self, usage: dict[str, Any]) -> None:
        for name in ("prompt_tokens", "completion_tokens"):
            if usage.get(name) is not None:
                self._told[name] = int(usage[name])
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        if cached is not None:
            self._told["cached_tokens"] = int(cached)

    def _finish(self, now: float) -> None:
        if self._chunks:
            self._end(Outcome.FINISHED, now, "", "")
        else:
            self._end(Outcome.FAILED, now, "empty answer", "no chunk had content")

    def _end(self, outcome: Outcome, now: float, cause: str, detail: str) -> None:
        self._ended = (outcome, now)
        self._told |= {"cause": cause, "detail": detail[:MOST_DETAIL]}


def _has_content(choice: dict[str, Any]) -> bool:
    """Of a chat or a completion; what a model thinks or calls is generated like any text."""
    delta = choice.get("delta") or {}
    return bool(
        choice.get("text")
        or delta.get("content")
        or delta.get("reasoning_content")
        or delta.get("reasoning")
        or delta.get("tool_calls")
    )


def _from_headers(headers: Mapping[str, str]) -> dict[str, Any]:
    """What a server says beside its answer; what is no number is left out."""
    found: dict[str, Any] = {
        "cached_tokens": _number(headers.get("x-moonpool-cached-tokens")),
        "predicted_ttft_s": _number(headers.get("x-moonpool-predicted-ttft-ms"), MS),
        "retry_after_s": _number(headers.get("retry-after-ms"), MS) or _number(headers.get("retry-after")),
        "prefill": headers.get("x-moonpool-prefill"),
        "decode": headers.get("x-moonpool-decode"),
        "request_id": headers.get("x-request-id"),
    }
    if found["cached_tokens"] is not None:
        found["cached_tokens"] = int(found["cached_tokens"])
    return {name: value for name, value in found.items() if value is not None}


def _number(text: str | None, unit: float = 1.0) -> float | None:
    try:
        return None if text is None else float(text) * unit
    except ValueError:
        return None  # a date, such as Retry-After may be


def _json(body: bytes) -> Any:  # Any: whatever a stranger answers with
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _error(document: Any, otherwise: str) -> tuple[str, str]:  # Any: as above
    """A word that groups it, and the server's sentence; of OpenAI's shape, and of those that leave its wrapper out."""
    error = document.get("error", document) if isinstance(document, dict) else document
    if not isinstance(error, dict):
        return otherwise, str(error)
    code = error.get("code")
    return code if isinstance(code, str) and code else otherwise, str(error.get("message", ""))
