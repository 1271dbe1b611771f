"""A trace: requests with their times and lengths, or conversations without times, whatever file they came from.

A row has names of blocks, each together with all before it; equal names are equal tokens, so they say which prefixes
requests share. The last block of a prompt is partial unless the block size divides the prompt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtest.request import Request, Span

BLOCK_TOKENS = 512
"""Tokens of a block in the traces that Mooncake published."""

MS = 1e-3


class TraceError(ValueError):
    """What was brought is no trace; the message says which line or column, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One request. timestamp: milliseconds since the beginning; lengths: tokens."""

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns in their order. Each span is a text: equal texts have equal contents."""

    turns: tuple[tuple[tuple[Span, ...], Span], ...]
    """What is new in each prompt, and the answer to it."""


@dataclass(frozen=True, slots=True)
class Trace:
    """rows in the order of their times; where there are none, conversations, which have no times."""

    rows: list[Row]
    block_tokens: int = BLOCK_TOKENS
    """Tokens that a name of a row stands for."""
    conversations: tuple[Conversation, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences for the user: what was guessed, and what was left out."""


def requests(
    rows: Sequence[Row], *, speed: float = 1.0, length: float = 1.0, block_tokens: int = BLOCK_TOKENS
) -> list[Request]:
    """The rows as a workload, its first request at 0 s.

    speed 2 replays it in half the time. length 0.5 halves every prompt and answer, block by block, so that
    requests that shared a prefix still do, and share the same part of it.
    """
    if not (speed > 0.0 and length > 0.0):
        raise ValueError(f"speed and length are factors above 0, not {speed} and {length}")
    size = max(1, round(block_tokens * length))
    began = rows[0].timestamp if rows else 0.0
    return [
        Request(
            at_s=(row.timestamp - began) * MS / speed,
            prompt=tuple(_spans(row, block_tokens, size)),
            # Content of an answer: numbers from the top, where no block of a trace has its own.
            output=Span(0xFFFF_FFFF - place, max(1, round(row.output_length * length))),
        )
        for place, row in enumerate(rows)
    ]


def _spans(row: Row, block_tokens: int, size: int) -> Iterator[Span]:
    """Every full block has ``size`` tokens; the partial one its share of them, at least one."""
    rest = row.input_length - (len(row.hash_ids) - 1) * block_tokens
    for name in row.hash_ids[:-1]:
        yield Span(name, size)
    yield Span(row.hash_ids[-1], max(1, round(rest * size / block_tokens)))
