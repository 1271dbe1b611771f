"""Where a run is kept: ``records.jsonl``, ``pools.jsonl``, ``summary.json``. The first two are written as they come."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from loadtest.record import PoolSample, Record, RecordError, pool_samples, records, to_line

RECORDS, POOLS, SUMMARY = "records.jsonl", "pools.jsonl", "summary.json"


class RunDirectoryError(Exception):
    """It can't be written, or read; the sentence says why."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What there is of a run. pools: empty where the target doesn't tell. unkept: why not all of it is on the disk."""

    records: Sequence[Record]
    summary: dict[str, Any]  # JSON
    pools: Sequence[PoolSample] = field(default=())
    unkept: str = ""


class RunDirectory:
    """One that is being written. Made new, unless ``overwrite``; raises RunDirectoryError where it can't be.

    A disk that is full, or a directory that somebody deletes, ends no run: ``unkept`` says what is lost.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        there = [name for name in (RECORDS, POOLS, SUMMARY) if (path / name).exists()]
        if there and not overwrite:
            raise RunDirectoryError(f"{path} has a run already ({', '.join(there)}); --overwrite writes over it")
        try:
            path.mkdir(parents=True, exist_ok=True)
            for name in there:
                (path / name).unlink()
            self._records = (path / RECORDS).open("w", encoding="utf-8")
        except OSError as error:
            raise RunDirectoryError(f"can't write to {path}: {error.strerror}") from error
        self._pools: TextIO | None = None
        self.unkept = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._noting():
            self._records.close()
        if self._pools is not None:
            with self._noting():
                self._pools.close()

    def record(self, record: Record) -> None:
        with self._noting():
            self._records.write(to_line(record) + "\n")
            self._records.flush()  # whatever becomes of us, it is kept

    def pool(self, sample: PoolSample) -> None:
        with self._noting():
            if self._pools is None:
                self._pools = (self.path / POOLS).open("w", encoding="utf-8")
            self._pools.write(to_line(sample) + "\n")
            self._pools.flush()

    def summary(self, summary: dict[str, Any]) -> None:
        """Whole, or not at all."""
        with self._noting():
            written(self.path / SUMMARY, summary)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """The first thing that went wrong."""
        try:
            yield
        except OSError as error:
            self.unkept = self.unkept or f"can't write to {self.path}: {error.strerror}"


def written(path: Path, document: dict[str, Any]) -> None:
    """A file of JSON: whole, or not at all. Raises OSError."""
    half = path.with_name(f".{path.name}")
    half.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    os.replace(half, path)


def read(path: Path) -> RunResult:
    """Raises RunDirectoryError. A run that was cut off has no summary: an empty one."""
    try:
        with (path / RECORDS).open(encoding="utf-8") as lines:
            found = list(records(lines, source=str(path / RECORDS)))
        pools: list[PoolSample] = []
        if (path / POOLS).exists():
            with (path / POOLS).open(encoding="utf-8") as lines:
                pools = list(pool_samples(lines, source=str(path / POOLS)))
        text = (path / SUMMARY).read_text(encoding="utf-8") if (path / SUMMARY).exists() else "{}"
        return RunResult(found, json.loads(text), pools)
    except (OSError, ValueError, RecordError) as error:
        raise RunDirectoryError(f"{path} is no run: {error}") from error
