"""What the tests of this part build with."""

import os
from pathlib import Path
from random import Random

import pytest

from loadtest.traces import Row, parse

TRACES = Path(os.environ.get("MOONPOOL_TRACES") or Path(__file__).parents[2].parent / "shared" / "traces")
"""Where the published traces lie; they are no part of the project."""


def chance(seed: int = 1) -> Random:
    return Random(seed)


def published(name: str = "conversation_trace.jsonl") -> list[Row]:
    """A published trace; the test is skipped where there is no copy."""
    path = TRACES / name
    if not path.exists():
        pytest.skip(f"no {name}: set MOONPOOL_TRACES to a folder that has it")
    with path.open(encoding="utf-8") as lines:
        return parse(lines, source=name)
