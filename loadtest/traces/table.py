"""Traces that are tables with a header line: Azure's, BurstGPT's, Vidur's, and Mooncake's fields as columns.

Which one it is, is known by its columns, in any order and case; other columns are not looked at. None has names of
blocks, so their prompts share nothing.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

from loadtest.traces.moment import seconds
from loadtest.traces.raw import RawRow, Unit, trace
from loadtest.traces.trace import Trace, TraceError


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of a kind's columns, in small letters. unit: of its times, where they are numbers; None: to be guessed."""

    kind: str
    time: str
    prompt: str
    answer: str
    unit: Unit | None = None


KINDS = (
    Columns("BurstGPT", "timestamp", "request tokens", "response tokens", Unit.SECONDS),
    Columns("Azure", "timestamp", "contexttokens", "generatedtokens", Unit.SECONDS),
    Columns("Vidur", "arrived_at", "num_prefill_tokens", "num_decode_tokens", Unit.SECONDS),
    Columns("Mooncake", "timestamp", "input_length", "output_length"),
)
"""HPMLL/BurstGPT 2.0, Azure/AzurePublicDataset (2023 and 2024), microsoft/vidur."""


def parse_table(
    lines: Iterable[str], *, source: str = "trace", unit: Unit | None = None, block_tokens: int | None = None
) -> Trace:
    """All rows, in the order of their times. Raises TraceError, which names line and column."""
    try:
        reader = csv.reader(lines, strict=True)
        header = [name.strip() for name in next(reader, [])]
        kind, places = _kind(header, source)
        rows: list[RawRow] = []
        dated = False
        for cells in reader:
            if cells:
                row, date = _row(cells, kind, places, f"{source} line {reader.line_num}", reader.line_num)
                if rows and date != dated:
                    raise TraceError(f"{source} line {reader.line_num}: {kind.time} mixes numbers and dates")
                rows.append(row)
                dated = date
    except csv.Error as error:
        raise TraceError(f"{source} line {reader.line_num} is no line of a table: {error}") from error
    known = Unit.SECONDS if dated else unit or kind.unit
    return trace(rows, source=source, unit=known, block_tokens=block_tokens)


def _kind(header: Sequence[str], source: str) -> tuple[Columns, tuple[int, int, int]]:
    """Whose columns are all there, and where they are."""
    names = [name.lower() for name in header]
    for kind in KINDS:
        wanted = (kind.time, kind.prompt, kind.answer)
        if all(name in names for name in wanted):
            return kind, (names.index(kind.time), names.index(kind.prompt), names.index(kind.answer))
    nearest = max(KINDS, key=lambda kind: sum(name in names for name in (kind.time, kind.prompt, kind.answer)))
    missing = [name for name in (nearest.time, nearest.prompt, nearest.answer) if name not in names]
    has = ", ".join(name[:40] for name in header[:12]) or "none"
    known = "; ".join(f"{kind.kind}'s {kind.time}, {kind.prompt}, {kind.answer}" for kind in KINDS)
    raise TraceError(f"{source} has no column {missing[0]!r}: its columns are {has}. Known are {known}")


def _row(
    cells: Sequence[str], kind: Columns, places: tuple[int, int, int], where: str, number: int
) -> tuple[RawRow, bool]:
    """Whether its time is a date."""
    if len(cells) <= max(places):
        raise TraceError(f"{where} has {len(cells)} columns, and its header more")
    time, prompt, answer = (cells[place].strip() for place in places)
    at, dated = _time(time, kind.time, where)
    return RawRow(number, at, _tokens(prompt, kind.prompt, where), _tokens(answer, kind.answer, where), None), dated


def _time(text: str, column: str, where: str) -> tuple[float, bool]:
    try:
        found = float(text)
    except ValueError:
        if (date := seconds(text)) is not None:
            return date, True
        found = -1.0
    if not 0 <= found < 1e15:
        raise TraceError(f"{where}: {column} is {text[:40]!r}, not a time from 0 on, nor a date")
    return found, False


def _tokens(text: str, column: str, where: str) -> int:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not isfinite(found) or found < 0 or not found.is_integer():
        raise TraceError(f"{where}: {column} is {text[:40]!r}, not a number of tokens")
    return int(found)
