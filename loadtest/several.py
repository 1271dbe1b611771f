"""What commands of several runs share: what a run is to them, caches that are emptied before it, a place to keep it."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtest.arguments import Parser
from loadtest.run import INTERRUPTED
from loadtest.run_directory import SUMMARY, RunDirectory, RunResult, read, written
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


def made(out: Path | None, *, what: str, resume: bool = False) -> Path | None:
    """resume: it may have runs in it. Raises SeveralError: runs stand alone, or a report would mix them with others."""
    if out is None:
        if resume:
            raise SeveralError("--resume goes on in --out DIR, and there is none")
        return None
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not resume:
            raise SeveralError(f"{out} is not empty; {what} wants a directory of its own, or --resume to go on in it")
    except OSError as error:
        raise SeveralError(f"can't write to {out}: {error.strerror}") from error
    return out


def made_once(run: Runs, settings: RunSettings, path: Path | None) -> RunResult:
    """What is kept there of a whole run of these settings; else it is made now. Raises as ``run`` does.

    A run that was cut off is made again. Raises SeveralError where the one that is there was of other settings.
    """
    if path is None:
        return run(settings, None)
    if (path / SUMMARY).exists():
        there = read(path)
        if not there.summary.get("interrupted"):
            if differs := _differs(there.summary.get("settings", {}), settings.described()):
                raise SeveralError(f"{path} is a run of other settings ({differs}), so --resume can't go on from it")
            return there
    with RunDirectory(path, overwrite=True) as kept:
        return run(settings, kept)


def write(path: Path | None, document: dict[str, Any]) -> str:  # Any: JSON
    """Beside its runs, where they are kept; why it couldn't be, or nothing."""
    if path is None:
        return ""
    try:
        written(path, document)
    except OSError as error:
        return f"can't write to {path}: {error.strerror}"
    return ""


def _differs(a: dict[str, Any], b: dict[str, Any]) -> str:  # Any: JSON
    """The first setting that does; of what JSON makes of both."""
    a, b = json.loads(json.dumps(a)), json.loads(json.dumps(b))
    return next((f"{name} {a.get(name)}, not {b.get(name)}" for name in {**a, **b} if a.get(name) != b.get(name)), "")


def add_keeping(parser: Parser) -> None:
    """``--out``, ``--resume``, ``--json``."""
    group = parser.add_argument_group("what is left of it")
    add = group.add_argument
    add("--out", type=Path, metavar="DIR", help="keep each run below it, for moonpool loadtest report DIR [nowhere]")
    add("--resume", action="store_true", help="go on in DIR: whole runs that are there are not made again")
    add("--json", action="store_true", help="print JSON instead of a table")


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
