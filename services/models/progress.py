"""Show what fetching and converting a model is doing: a bar on a terminal, else a line per stage."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from services.models import resolve


@contextmanager
def showing_progress() -> Iterator[resolve.Progress]:
    """Give a callback for ``resolve_model``; writes to stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        stages: dict[str, int] = {}

        def on_progress(what: str, done: float | None) -> None:
            if what not in stages:
                stages[what] = progress.add_task(what, total=None if done is None else 1.0)
            if done is not None:
                progress.update(progress.task_ids[stages[what]], completed=done)

        yield on_progress


def _lines() -> resolve.Progress:
    said: set[str] = set()

    def on_progress(what: str, done: float | None) -> None:
        if what not in said:
            said.add(what)
            print(what, file=sys.stderr, flush=True)

    return on_progress
