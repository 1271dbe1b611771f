"""Where a trace comes from: the file that was asked for, a copy of the published one, or the built-in generator.

What kind of file it is, is known by its content: lines of JSON, a JSON list, or a table; gzip'd or not.
"""

import gzip
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from typing import TextIO

from loadtest.client.vocabulary import LocalTokenizer, VocabularyError
from loadtest.traces import Trace, TraceError, Unit, conversation
from loadtest.traces.conversations import CountTokens, has_texts, parse_conversations
from loadtest.traces.mooncake import documents, rows_of
from loadtest.traces.table import parse_table

PUBLISHED = Path("../shared/traces/conversation_trace.jsonl")
"""Where a copy would lie, seen from the project's folder."""

HINT = (
    "no trace given: using the built-in one, which has the published conversation trace's statistics. "
    "The real one is FAST25-release/traces/conversation_trace.jsonl in the public repository kvcache-ai/Mooncake"
)

GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class TraceFile:
    """A file and what is known of it; None: the published trace or the built-in one; a unit, a size to be guessed."""

    path: Path | None = None
    unit: Unit | None = None
    block_tokens: int | None = None
    tokenizer: Path | None = None
    """A tokenizer.json or its folder, to count the tokens of texts with."""


def find(path: Path | None) -> Path | None:
    """The file that was asked for, or a copy of the published trace; none: the built-in generator."""
    return path or (PUBLISHED if PUBLISHED.exists() else None)


def read(file: TraceFile, *, seed: int) -> Trace:
    """The whole trace. Raises TraceError."""
    found = find(file.path)
    if found is None:
        return Trace(conversation(Random(seed)), notes=(HINT,))
    try:
        with _opened(found) as lines:
            return _parsed(lines, file, str(found))
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise TraceError(f"can't read {found}: {getattr(error, 'strerror', None) or error}") from error


def say(name: str, trace: Trace) -> None:
    """Tell the user of this command what was guessed or left out."""
    for note in trace.notes:
        print(f"{name}: {note}", file=sys.stderr)


def _opened(path: Path) -> TextIO:
    """Decompressed where it has to be; a byte order mark is no content."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    opened: TextIO = (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig", newline="")
    return opened


def _parsed(lines: TextIO, file: TraceFile, source: str) -> Trace:
    beginning = list(_first(lines))
    start = beginning[-1].lstrip()[:1] if beginning else ""
    if start not in ("{", "["):
        if not start:
            raise TraceError(f"{source} has no requests")
        whole = chain(beginning[-1:], lines)
        return parse_table(whole, source=source, unit=file.unit, block_tokens=file.block_tokens)
    text = chain(beginning, lines)
    values = _list(text, source) if start == "[" else documents(text, source=source)
    first = next(values, None)
    if first is None:
        raise TraceError(f"{source} has no requests")
    every = chain([first], values)
    if has_texts(first[1]):
        return parse_conversations(every, source=source, tokens=_counter(file.tokenizer))
    return rows_of(every, source=source, unit=file.unit, block_tokens=file.block_tokens)


def _first(lines: Iterable[str]) -> Iterator[str]:
    """Lines up to the first that is not empty."""
    for line in lines:
        yield line
        if line.strip():
            return


def _list(lines: Iterable[str], source: str) -> Iterator[tuple[int, object]]:
    """The values of a JSON list, and their places from 1. Raises TraceError."""
    try:
        return iter(enumerate(json.loads("".join(lines)), 1))
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{source} is not JSON: {error}") from error


def _counter(path: Path | None) -> CountTokens | None:
    """How many tokens a text has, by this tokenizer. Raises TraceError."""
    if path is None:
        return None
    try:
        return LocalTokenizer(path).count
    except VocabularyError as error:
        raise TraceError(str(error)) from error
