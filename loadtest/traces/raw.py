"""From rows as a file has them to a trace: in which unit times are, how many tokens a name stands for.

Neither stands in any file. Both are guessed from the numbers unless told, and a guess that may be wrong is said:
an hour's trace whose milliseconds are taken for seconds replays in six weeks, and one whose blocks of 16 tokens are
taken for blocks of 512 shares almost nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

from loadtest.traces.trace import BLOCK_TOKENS, MS, Row, Trace, TraceError

KNOWN_SIZES = (BLOCK_TOKENS, 16)
"""Of blocks: Mooncake's, and that of the qwen-bailian traces, which vLLM 0.32's ``timed_trace`` has as its default."""

MOST_BLOCK_TOKENS = 1 << 20

MOST_NAMES = 1 << 31
"""Contents from there on are answers'."""

LONGEST_S = 7 * 24 * 3600.0
"""The longest published trace is Azure's week (2024); times with fractions that span more are no seconds."""

MOST_PER_S = 1000.0
"""Requests: more a second than one deployment's log has, so such times are no milliseconds."""

SHORT_S = 60.0
"""A trace of milliseconds that spans less may be one of seconds."""


class Unit(StrEnum):
    """Of the times in a trace."""

    SECONDS = "s"
    MILLISECONDS = "ms"


@dataclass(slots=True)
class RawRow:
    """A request as a file has it. line: its number there. time: in the file's unit. names: None where it has none."""

    line: int
    time: float
    input_length: int
    output_length: int
    names: tuple[int | str, ...] | None


def trace(raw: Sequence[RawRow], *, source: str, unit: Unit | None = None, block_tokens: int | None = None) -> Trace:
    """unit and block_tokens: where they are known. Raises TraceError."""
    notes: list[str] = []
    asked = [row for row in raw if row.input_length > 0]
    if not asked:
        raise TraceError(f"{source} has no requests" + (" with prompts" if raw else ""))
    if len(asked) < len(raw):
        notes.append(f"{len(raw) - len(asked)} of {len(raw)} requests have no prompt and are left out")
    if silent := sum(row.output_length == 0 for row in asked):
        notes.append(f"{silent} of {len(asked)} requests have no output tokens, as failed ones have: each asks for one")
    asked.sort(key=lambda row: row.time)
    factor = 1.0 if _unit(asked, unit, notes) is Unit.MILLISECONDS else 1000.0
    size, names = _named(asked, source, block_tokens, notes)
    rows = [
        Row(row.time * factor, row.input_length, max(1, row.output_length), own)
        for row, own in zip(asked, names, strict=True)
    ]
    return Trace(rows, size, notes=tuple(notes))


def _unit(rows: Sequence[RawRow], told: Unit | None, notes: list[str]) -> Unit:
    """Mooncake's are whole milliseconds; whole numbers are seconds only where milliseconds can't be."""
    if told is not None:
        return told
    span = rows[-1].time - rows[0].time
    fractions = any(not row.time.is_integer() for row in rows)
    if fractions and span <= LONGEST_S:
        notes.append("its times are taken for seconds, as they have fractions; if they are not: --trace-time-unit ms")
        return Unit.SECONDS
    if span > 0 and len(rows) > MOST_PER_S and len(rows) / (span * MS) > MOST_PER_S:
        notes.append(
            f"its times are taken for seconds: in milliseconds {len(rows) / (span * MS):.0f} requests would come in a "
            "second; if they are not: --trace-time-unit ms"
        )
        return Unit.SECONDS
    if 0 < span * MS < SHORT_S:
        notes.append(f"this trace spans {span * MS:.3g} s: are its times seconds? Then: --trace-time-unit s")
    return Unit.MILLISECONDS


def _named(
    rows: Sequence[RawRow], source: str, told: int | None, notes: list[str]
) -> tuple[int, list[tuple[int, ...]]]:
    """Tokens of a block, and each row's names, as many as it has blocks."""
    without = [row for row in rows if row.names is None]
    if without and len(without) < len(rows):
        raise TraceError(f"{source} line {without[0].line}: hash_ids is missing, and other lines have it")
    fresh = count(0)
    if without:
        size = told or BLOCK_TOKENS
        notes.append("it has no hash ids, so its prompts share no prefix")
        return size, [tuple(next(fresh) for _ in range(_blocks(row, size))) for row in rows]
    size, partial = _block_size(rows, source, told, notes)
    known = _numbers(name for row in rows for name in row.names or ())
    fresh = count(1 + max(known.values(), default=-1))
    names = []
    for row in rows:
        own = tuple(known[name] for name in row.names or ())
        names.append(own if partial or len(own) == _blocks(row, size) else (*own, next(fresh)))
    if next(fresh) > MOST_NAMES:
        raise TraceError(f"{source} has more than {MOST_NAMES} different blocks")
    return size, names


def _numbers(names: Iterable[int | str]) -> dict[int | str, int]:
    """Names as they stand where they are numbers that contents can be, else in the order in which they come."""
    seen = dict.fromkeys(names)
    if all(isinstance(name, int) and 0 <= name < MOST_NAMES for name in seen):
        return {name: int(name) for name in seen}
    return {name: place for place, name in enumerate(seen)}


def _block_size(rows: Sequence[RawRow], source: str, told: int | None, notes: list[str]) -> tuple[int, bool]:
    """Tokens of a block; and whether a prompt's unfilled last block has a name, too."""
    size, partial = next(_fitting(rows, told), (told or _likely(_bounds(rows[:1], partial=True)), None))
    if partial is None:
        wrong = next(row for row in rows if len(row.names or ()) != _blocks(row, size))
        raise TraceError(
            f"{source} line {wrong.line}: hash_ids has {len(wrong.names or ())} entries, but {wrong.input_length} "
            f"tokens are {_blocks(wrong, size)} blocks of {size}"
        )
    if told is None and (size != BLOCK_TOKENS or not partial):
        which = "blocks" if partial else "whole blocks"
        notes.append(
            f"its hash ids are taken for {which} of {size} tokens, which fits all its lengths; "
            "if they are others: --trace-block-tokens"
        )
    return size, partial


def _fitting(rows: Sequence[RawRow], told: int | None) -> Iterator[tuple[int, bool]]:
    """Block sizes that all lengths allow, the likeliest first, with and without a name for an unfilled last block."""
    bounds = {partial: _bounds(rows, partial=partial) for partial in (True, False)}
    for partial, each in bounds.items():
        for size in KNOWN_SIZES if told is None else (told,):
            if size in each:
                yield size, partial
    for partial, each in bounds.items():
        if told is None and each:
            yield _likely(each), partial


def _bounds(rows: Sequence[RawRow], *, partial: bool) -> range:
    """Tokens of a block that all rows allow, by how many names each has."""
    least, most = 1, MOST_BLOCK_TOKENS
    for row in rows:
        tokens, blocks = row.input_length, len(row.names or ())
        if partial:  # tokens / blocks <= size < tokens / (blocks - 1); a prompt has at least one
            low = -(-tokens // blocks) if blocks else MOST_BLOCK_TOKENS + 1
            high = (tokens - 1) // (blocks - 1) if blocks > 1 else MOST_BLOCK_TOKENS
        else:  # tokens / (blocks + 1) < size <= tokens / blocks
            low = tokens // (blocks + 1) + 1
            high = tokens // blocks if blocks else MOST_BLOCK_TOKENS
        least, most = max(least, low), min(most, high)
    return range(least, most + 1)


def _likely(sizes: range) -> int:
    """A published trace's, else the least power of two, else the least of all; of none, the published one."""
    powers = (1 << power for power in range(MOST_BLOCK_TOKENS.bit_length()))
    likely = (*KNOWN_SIZES, *powers, sizes.start)
    return next((size for size in likely if size in sizes), BLOCK_TOKENS)


def _blocks(row: RawRow, size: int) -> int:
    return -(-row.input_length // size)
