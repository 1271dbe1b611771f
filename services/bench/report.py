"""One form for every benchmark: rows with their limit and ratio, and what they were measured on."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

Row = Mapping[str, object]
"""name, value, unit, limit, ratio; a part may add fields of its own."""


def show(title: str, rows: Sequence[Row], settings: Mapping[str, object], *, as_json: bool) -> None:
    """Print the rows: one JSON document, or a table."""
    if as_json:
        document = {"rows": rows, "commit": commit(), "machine": machine(), "settings": settings}
        print(json.dumps(document, indent=2))
        return
    table = Table(title=f"{title} on {machine()['cpu']}, {machine()['cores']} cores")
    extra = [key for key in rows[0] if key not in ("name", "value", "unit", "limit", "ratio")] if rows else []
    for column in ("row", "value", "unit", "limit", "ratio", *extra):
        table.add_column(column, justify="left" if column in ("row", "unit") else "right")
    for row in rows:
        numbers = [_figure(row[key]) for key in ("limit", "ratio")]
        table.add_row(
            str(row["name"]), _figure(row["value"]), str(row["unit"]), *numbers, *(str(row[key]) for key in extra)
        )
    Console().print(table)


def commit() -> str | None:
    """The checkout's commit, with ``+`` where files differ from it; None outside a checkout."""
    folder = Path(__file__).parent
    try:
        revision = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision + ("+" if changed else "")


def machine() -> dict[str, object]:
    return {
        "cpu": _cpu_model() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=True, text=True).stdout.strip()


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)


def _figure(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.3g}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"
