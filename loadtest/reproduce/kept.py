"""Simulations kept in a folder, so that an interrupted ``moonpool reproduce`` goes on where it was.

A file is named by all that its simulation is a function of: the run, the trace, the seed, and the text of every
module that simulates. So nothing stale is found, and nobody needs to clear the folder for the result's sake.
"""

import json
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from loadtest.reproduce.bench import Maker
from loadtest.reproduce.copies import Copies
from loadtest.reproduce.run import Made, Run
from loadtest.simulator.pools import Sample
from loadtest.simulator.record import Record
from loadtest.traces import Row

ROOT = Path(__file__).parents[2]
SIMULATES = (
    "kvstore/*.py", "scheduler/**/*.py", "engine/costs.py", "loadtest/request.py", "loadtest/simulator/*.py",
    "loadtest/traces/*.py", "loadtest/reproduce/run.py", "loadtest/reproduce/copies.py",
)  # fmt: skip


def keeping(folder: Path, maker: Maker) -> Maker:
    """The same, but what was made once is read again. Raises OSError where the folder can't be used."""
    folder.mkdir(parents=True, exist_ok=True)

    def kept(rows: list[Row], seed: int, run: Run) -> Made:
        path = folder / f"{_digest(repr((_code(), seed, run, rows)))}.json"
        if path.exists():
            return _read(path)
        made = maker(rows, seed, run)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(made)), encoding="utf-8")
        fresh.rename(path)
        return made

    return kept


def _read(path: Path) -> Made:
    found = json.loads(path.read_text(encoding="utf-8"))
    return Made(
        [Record(**_frozen(each)) for each in found["records"]],
        [Sample(**_frozen(each)) for each in found["samples"]],
        [Copies(**_frozen(each)) for each in found["copies"]],
    )


def _frozen(fields: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """JSON has lists where we have tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


@cache
def _code() -> str:
    paths = sorted(path for pattern in SIMULATES for path in ROOT.glob(pattern))
    return _digest("".join(path.read_text(encoding="utf-8") for path in paths))


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]
