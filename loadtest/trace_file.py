"""Where a trace comes from: the file that was asked for, a copy of the published one, or the built-in generator."""

from pathlib import Path
from random import Random

from loadtest.traces import Row, TraceError, conversation, parse

PUBLISHED = Path("../shared/traces/conversation_trace.jsonl")
"""Where a copy would lie, seen from the project's folder."""

HINT = (
    "no trace given: using the built-in one, which has the published conversation trace's statistics. "
    "The real one is FAST25-release/traces/conversation_trace.jsonl in the public repository kvcache-ai/Mooncake"
)


def find(path: Path | None) -> Path | None:
    """The file that was asked for, or a copy of the published trace; none: the built-in generator."""
    return path or (PUBLISHED if PUBLISHED.exists() else None)


def read(path: Path | None, *, seed: int) -> tuple[list[Row], str]:
    """All rows, and a sentence for the user where they are not from a file. Raises TraceError."""
    found = find(path)
    if found is None:
        return conversation(Random(seed)), HINT
    try:
        with found.open(encoding="utf-8") as lines:
            return parse(lines, source=str(found)), ""
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"can't read {found}: {getattr(error, 'strerror', None) or error}") from error
