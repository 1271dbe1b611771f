"""A run's directory, read once: columns for plots, the slowest requests whole, its summary.

Records stream through, so that a run of 100,000 requests with hundreds of tokens each fits: of all tokens only the
gaps between them stay, as floats.
"""

import heapq
import json
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.metrics.timing import e2el_s, itls_s, tpot_s
from loadtest.record import Outcome, PoolSample, Record, RecordError, pool_samples, records
from loadtest.run_directory import POOLS, RECORDS, SUMMARY

SWEEP, COMPARISON = "sweep.json", "compare.json"
SLOWEST = 20
_NUMBERED = re.compile(r"([^0-9]*)((?:[0-9]+(?:\.[0-9]+)?)?)")
Floats = npt.NDArray[np.float64]


class RunError(ValueError):
    """No run; the sentence says what is missing or wrong."""


@dataclass(frozen=True, slots=True)
class Columns:
    """One number for each offered request, in the order they were sent; nan where there is none.

    ttft_s, tpot_s, e2el_s: of finished ones only; first_s: when the first token came, of any, since the beginning.
    """

    sent_s: Floats
    first_s: Floats
    ended_s: Floats
    ttft_s: Floats
    tpot_s: Floats
    e2el_s: Floats
    predicted_s: Floats
    outcomes: tuple[Outcome, ...]

    def __len__(self) -> int:
        return len(self.outcomes)

    def are(self, outcome: Outcome) -> npt.NDArray[np.bool_]:
        return np.fromiter((each is outcome for each in self.outcomes), dtype=np.bool_, count=len(self))


@dataclass(frozen=True, slots=True)
class Cause:
    """Why requests were refused or failed, how many, and what the target said to one of them."""

    outcome: Outcome
    cause: str
    number: int
    example: str


@dataclass(frozen=True, slots=True)
class Run:
    """gaps_s: between chunks of finished requests. slowest: finished ones, the longest first.

    group: what it is one of several runs of; its name, where it stands alone.
    """

    name: str
    columns: Columns
    gaps_s: Floats
    slowest: tuple[Record, ...] = ()
    pools: tuple[PoolSample, ...] = ()
    causes: tuple[Cause, ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    group: str = ""

    @property
    def rate(self) -> float | None:
        """Requests asked for in a second; None: all at once, or nobody said."""
        rate = self.summary.get("request_rate")
        if (self.summary.get("settings") or {}).get("workload") == "trace":  # it has its own, whatever is asked
            rate = self.summary.get("offered_request_rate")
        return float(rate) if isinstance(rate, int | float) else None

    @property
    def span_s(self) -> float:
        return float(self.columns.ended_s.max()) if len(self.columns) else 0.0

    def bound_s(self, measure: str) -> float | None:
        """The bound on it that good requests had to keep, where there was one."""
        for bound in self.summary.get("slo_attainment_by") or {}:
            name, _, milliseconds = str(bound).partition(":")
            if name == measure:
                return float(milliseconds) / 1e3
        return None


def gather(
    name: str,
    offered: Iterable[Record],
    *,
    pools: Iterable[PoolSample] = (),
    summary: dict[str, Any] | None = None,
    slowest: int = SLOWEST,
    group: str = "",
) -> Run:
    """A run of these records, which may be a generator."""
    rows = array("d")
    outcomes: list[Outcome] = []
    gaps = array("d")
    longest: list[tuple[float, int, Record]] = []
    counts: Counter[tuple[Outcome, str]] = Counter()
    examples: dict[tuple[Outcome, str], str] = {}
    for number, record in enumerate(offered):
        outcomes.append(record.outcome)
        rows.extend(_row(record))
        if record.finished:
            gaps.extend(itls_s(record))
            item = (e2el_s(record) or 0.0, -number, record)
            heapq.heappush(longest, item) if len(longest) < slowest else heapq.heappushpop(longest, item)
        elif record.outcome is not Outcome.CANCELLED:
            cause = (record.outcome, record.cause or "unknown")
            counts[cause] += 1
            examples.setdefault(cause, record.detail)
    return Run(
        name,
        _columns(rows, outcomes),
        np.asarray(gaps),
        tuple(record for *_, record in sorted(longest, reverse=True)),
        tuple(pools),
        tuple(Cause(*cause, number, examples[cause]) for cause, number in counts.most_common()),
        summary or {},
        group or name,
    )


def load(directory: Path, *, name: str = "", group: str = "", slowest: int = SLOWEST) -> Run:
    """Raises RunError. The summary may be missing, as after a crash; records may not."""
    try:
        with (directory / RECORDS).open(encoding="utf-8") as lines:
            summary = _document(directory / SUMMARY)
            pools = tuple(_pools(directory / POOLS))
            found = records(lines, source=str(directory / RECORDS))
            label = name or str(summary.get("label") or "") or directory.name
            return gather(label, found, pools=pools, summary=summary, slowest=slowest, group=group)
    except RecordError as error:
        raise RunError(str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"can't read {directory / RECORDS}: {getattr(error, 'strerror', None) or error}") from error


def find(given: Path) -> list[Path]:
    """The runs in a directory: itself, or those right below it, as a sweep or a comparison leaves them.

    Raises RunError where there are none.
    """
    if (given / RECORDS).exists():
        return [given]
    if not given.is_dir():
        raise RunError(f"{given} is no directory")
    found = sorted((path.parent for path in given.glob(f"*/{RECORDS}")), key=_as_people_count)
    if not found:
        raise RunError(f"{given} has no {RECORDS}, nor has a directory in it: no run of a load test")
    return found


def sweep_of(given: Path) -> dict[str, Any]:  # Any: JSON
    """What a sweep found; empty where this is no sweep's directory."""
    return _document(given / SWEEP)


def comparison_of(given: Path) -> dict[str, Any]:  # Any: JSON
    """What a comparison found; empty where this is no comparison's directory."""
    return _document(given / COMPARISON)


def group_of(directory: Path) -> str:
    """Of a sweep's run its rate, of a comparison's its side: they are numbered. Otherwise none."""
    several = (directory.parent / SWEEP).exists() or (directory.parent / COMPARISON).exists()
    return directory.name.rpartition("-")[0] if several else ""


def names(directories: Sequence[Path]) -> list[str]:
    """Each its own: the last part of its path, or more of it where that isn't enough."""
    parts = [path.resolve().parts for path in directories]
    depth = 1
    while len({each[-depth:] for each in parts}) < len(set(parts)):
        depth += 1
    return ["/".join(each[-depth:]) for each in parts]


def _as_people_count(path: Path) -> list[tuple[str, float]]:
    """rate-4 before rate-12."""
    return [(text, float(digits or 0)) for text, digits in _NUMBERED.findall(path.name)]


def _row(record: Record) -> tuple[float, ...]:
    first_s = nan if record.ttft_s is None else record.sent_s + record.ttft_s
    latencies = (record.ttft_s, tpot_s(record), e2el_s(record)) if record.finished else (None, None, None)
    known = (nan if value is None else value for value in (*latencies, record.predicted_ttft_s))
    return (record.sent_s, first_s, record.ended_s, *known)


def _columns(rows: "array[float]", outcomes: list[Outcome]) -> Columns:
    table = np.asarray(rows).reshape(-1, 7)
    order = np.argsort(table[:, 0], kind="stable")
    sent, first, ended, ttft, tpot, e2el, predicted = (np.ascontiguousarray(column) for column in table[order].T)
    return Columns(sent, first, ended, ttft, tpot, e2el, predicted, tuple(outcomes[place] for place in order))


def _document(path: Path) -> dict[str, Any]:  # Any: JSON
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} holds no JSON object")
    return found


def _pools(path: Path) -> Iterator[PoolSample]:
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            yield from pool_samples(lines, source=str(path))
