"""The JSON of an answer, whole and as chunks of a stream; what chat and text completions share of it.

Chunks are put together from strings, as one is made for every token: what stays the
same in a stream is made once, and only the text is escaped.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from services.gateway import sse
from services.gateway.order import Order


@dataclass(frozen=True, slots=True)
class Usage:
    """cached_tokens: prompt tokens whose KV was reused; never those that a handoff moved."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    @property
    def document(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": 0},  # some clients read it unasked
        }


@dataclass(slots=True)
class Told:
    """One choice as it is told. text: all of it, kept for whole answers; tokens: ids not yet sent (or all of them)."""

    index: int
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | int | None = None


class Shape(ABC):
    """The JSON of one answer. fingerprint: of what served it."""

    whole_object: ClassVar[str]
    chunk_object: ClassVar[str]

    def __init__(self, order: Order, *, model: str, fingerprint: str, created: int) -> None:
        self._order = order
        self._telling = order.telling
        self._common = {
            "id": order.id,
            "created": created,
            "model": model,
            "system_fingerprint": fingerprint,
        }
        head = sse.dumps({"id": order.id, "object": self.chunk_object, **self._common})
        self._start = f"data: {head[:-1]},"
        self._head = f'{self._start}"choices":['
        self._tail = '],"usage":null}\n\n' if self._telling.include_usage else "]}\n\n"

    @abstractmethod
    def opening(self, index: int) -> bytes:
        """What a stream says of a choice before its first text; may be nothing."""

    @abstractmethod
    def _said(self, text: str) -> str:
        """``"delta":..`` or ``"text":..`` of a chunk."""

    @abstractmethod
    def _choice(self, told: Told) -> dict[str, Any]:
        """A choice of a whole answer, but for what both kinds have."""

    def piece(self, told: Told, text: str, usage: Usage | None = None) -> bytes:
        """A chunk with the next text of a choice."""
        return self._chunk(
            f'{{"index":{told.index},{self._said(text)},"logprobs":null,"finish_reason":null{self._ids(told)}}}', usage
        )

    def ending(self, told: Told, text: str, usage: Usage | None = None) -> bytes:
        """The last chunk of a choice, with the rest of its text."""
        why = f'"finish_reason":"{told.finish_reason}","stop_reason":{sse.dumps(told.stop_reason)}'
        return self._chunk(f'{{"index":{told.index},{self._said(text)},"logprobs":null,{why}{self._ids(told)}}}', usage)

    def usage(self, usage: Usage) -> bytes:
        """The chunk after the last, for those who asked for it."""
        return f'{self._head}],"usage":{sse.dumps(usage.document)}}}\n\n'.encode()

    def whole(self, choices: Sequence[Told], usage: Usage) -> dict[str, Any]:
        """The answer that is no stream."""
        return {
            **self._common,
            "object": self.whole_object,
            "choices": [self._whole_choice(told) for told in choices],
            "usage": usage.document,
        }

    def _whole_choice(self, told: Told) -> dict[str, Any]:
        document = {
            "index": told.index,
            **self._choice(told),
            "logprobs": None,
            "finish_reason": told.finish_reason,
            "stop_reason": told.stop_reason,
        }
        if self._telling.return_token_ids:
            document["token_ids"] = told.tokens
        return document

    def _chunk(self, choice: str, usage: Usage | None = None, before: str = "") -> bytes:
        if before:
            return f'{self._start}{before}"choices":[{choice}{self._tail}'.encode()
        if usage is not None:
            return f'{self._head}{choice}],"usage":{sse.dumps(usage.document)}}}\n\n'.encode()
        return f"{self._head}{choice}{self._tail}".encode()

    def _ids(self, told: Told) -> str:
        """The ids behind this chunk's text and any that had none; each is sent once."""
        if not self._telling.return_token_ids:
            return ""
        ids, told.tokens = told.tokens, []
        return f',"token_ids":{sse.dumps(ids)}'
