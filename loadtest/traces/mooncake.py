"""Mooncake's trace format: one JSON object a line, read rightly by default.

    {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [0, 46, 47, .., 2354]}

timestamp is in milliseconds since the beginning. Lengths are in tokens. hash_ids name blocks of 512 tokens,
each together with all before it; the last block is partial unless 512 divides the input. Who reads the
timestamp as seconds replays an hour in six weeks, and who reads blocks of 16 finds almost no prefix.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

from loadtest.request import Request, Span

BLOCK_TOKENS = 512
"""Tokens of a block in the published traces."""

MS = 1e-3


class TraceError(ValueError):
    """A line that is no request; the message says which line, which field, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line as it stands. timestamp: milliseconds; lengths: tokens."""

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...]


def parse(lines: Iterable[str], *, source: str = "trace", block_tokens: int = BLOCK_TOKENS) -> list[Row]:
    """All rows, in the order of their timestamps; empty lines are skipped. Raises TraceError."""
    rows = [_row(line, f"{source} line {number}", block_tokens) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise TraceError(f"{source} has no requests")
    return sorted(rows, key=lambda row: row.timestamp)


def requests(
    rows: Sequence[Row], *, speed: float = 1.0, length: float = 1.0, block_tokens: int = BLOCK_TOKENS
) -> list[Request]:
    """The trace as a workload, its first request at 0 s.

    speed 2 replays it in half the time. length 0.5 halves every prompt and answer, block by block, so that who
    shared a prefix still does and shares the same part of it.
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


def _row(line: str, where: str, block_tokens: int) -> Row:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise TraceError(f"{where} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise TraceError(f"{where} is not a JSON object, but {type(fields).__name__}")
    timestamp = _field(fields, "timestamp", where)
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float) or not 0 <= timestamp < 1e15:
        raise TraceError(f"{where}: timestamp is {timestamp!r}, not milliseconds from 0 on")
    assert isfinite(timestamp)
    tokens = [_length(fields, name, where) for name in ("input_length", "output_length")]
    names = _field(fields, "hash_ids", where)
    if not isinstance(names, list) or not all(type(name) is int and 0 <= name < 2**31 for name in names):
        raise TraceError(f"{where}: hash_ids is not a list of numbers from 0 to 2**31 - 1")
    blocks = -(-tokens[0] // block_tokens)
    if len(names) != blocks:
        raise TraceError(
            f"{where}: hash_ids has {len(names)} entries, but {tokens[0]} tokens are {blocks} blocks of {block_tokens}"
        )
    return Row(float(timestamp), tokens[0], tokens[1], tuple(names))


def _length(fields: dict[str, object], name: str, where: str) -> int:
    value = _field(fields, name, where)
    if type(value) is not int or value < 1:
        raise TraceError(f"{where}: {name} is {value!r}, not a number of tokens above 0")
    return value


def _field(fields: dict[str, object], name: str, where: str) -> object:
    if name not in fields:
        raise TraceError(f"{where}: {name} is missing")
    return fields[name]
