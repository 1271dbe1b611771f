"""What commands of several runs share: what a run is to them, caches that are emptied before it, a place to keep it."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from loadtest.run import INTERRUPTED
from loadtest.run_directory import RunDirectory, RunResult
from loadtest.settings import Endpoint, RunSettings

Runs = Callable[[RunSettings, RunDirectory | None], RunResult]
"""``loadtest.run.run``, or what a test has instead."""


class SeveralError(Exception):
    """There is nothing to run, or nowhere to keep it; the sentence says why."""


def resetting(settings: RunSettings, *, keep: bool) -> RunSettings:
    """A simulated cluster is a new one for each run."""
    if keep or not isinstance(settings.target, Endpoint):
        return settings
    return replace(settings, target=replace(settings.target, reset_cache=True))


def made(out: Path | None, *, what: str) -> Path | None:
    """Raises SeveralError: its runs stand alone, or a report would mix them with others."""
    if out is None:
        return None
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise SeveralError(f"{out} is not empty; {what} wants a directory of its own")
    except OSError as error:
        raise SeveralError(f"can't write to {out}: {error.strerror}") from error
    return out


def ended(name: str, *, interrupted: bool, failed: str) -> int:
    """The exit status, and the sentence where a run failed after others had not."""
    if failed:
        print(f"{name}: ended early: {failed}", file=sys.stderr)
        return 1
    return INTERRUPTED if interrupted else 0


def shown_as(value: float | None) -> str:
    """Three digits that count, or all before the point."""
    if value is None:
        return "-"
    return f"{value:,.3g}" if value < 1e3 else f"{value:,.0f}"
