"""Mooncake's trace format: one JSON object a line; other traces (qwen-bailian's among them) have the same fields.

    {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [0, 46, 47, .., 2354]}

timestamp is since the beginning, in milliseconds in Mooncake's and in seconds in qwen-bailian's. Lengths are in
tokens. hash_ids name blocks of 512 tokens in Mooncake's and of 16 in qwen-bailian's, each together with all before it.
"""

import json
from collections.abc import Iterable, Iterator

from loadtest.traces.moment import seconds
from loadtest.traces.raw import RawRow, Unit, trace
from loadtest.traces.trace import Trace, TraceError

NOT_READ = ("text_input", "messages", "prompt", "delay", "session_id")
"""What others put into such lines instead of lengths and times (aiperf 0.13)."""


def parse(
    lines: Iterable[str], *, source: str = "trace", unit: Unit | None = None, block_tokens: int | None = None
) -> Trace:
    """All rows, in the order of their times; empty lines are skipped. Raises TraceError."""
    return rows_of(documents(lines, source=source), source=source, unit=unit, block_tokens=block_tokens)


def documents(lines: Iterable[str], *, source: str) -> Iterator[tuple[int, object]]:
    """The JSON value of each line, and its number. Raises TraceError."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise TraceError(f"{source} line {number} is not JSON: {error}") from error


def rows_of(values: Iterable[tuple[int, object]], *, source: str, unit: Unit | None, block_tokens: int | None) -> Trace:
    """values: JSON values with the numbers of their lines. Raises TraceError."""
    rows = [_row(value, f"{source} line {number}", number) for number, value in values]
    dated = [is_date for _, is_date in rows]
    if any(dated) and not all(dated):
        raise TraceError(f"{source} has numbers and dates as timestamps")
    known = Unit.SECONDS if any(dated) else unit
    return trace([row for row, _ in rows], source=source, unit=known, block_tokens=block_tokens)


def _row(fields: object, where: str, number: int) -> tuple[RawRow, bool]:
    """Whether its time was a date."""
    if not isinstance(fields, dict):
        raise TraceError(f"{where} is not a JSON object, but {type(fields).__name__}")
    timestamp = _field(fields, "timestamp", where)
    time, dated = _time(timestamp, where)
    tokens = [_length(fields, name, where) for name in ("input_length", "output_length")]
    return RawRow(number, time, tokens[0], tokens[1], _names(fields, where)), dated


def _time(value: object, where: str) -> tuple[float, bool]:
    if isinstance(value, str) and (date := seconds(value)) is not None:
        return date, True
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        raise TraceError(f"{where}: timestamp is {value!r}, not a time from 0 on, nor a date")
    return float(value), False


def _names(fields: dict[str, object], where: str) -> tuple[int | str, ...] | None:
    names = fields.get("hash_ids")
    if names is None:
        return None
    if not isinstance(names, list) or not all(type(name) in (int, str) for name in names):
        raise TraceError(f"{where}: hash_ids is not a list of numbers or texts")
    return tuple(names)


def _length(fields: dict[str, object], name: str, where: str) -> int:
    value = _field(fields, name, where)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or value < 0:
        raise TraceError(f"{where}: {name} is {value!r}, not a number of tokens")
    return value


def _field(fields: dict[str, object], name: str, where: str) -> object:
    if name in fields:
        return fields[name]
    others = [other for other in NOT_READ if other in fields]
    raise TraceError(f"{where}: {name} is missing" + (f"; {others[0]} is not read instead" if others else ""))
