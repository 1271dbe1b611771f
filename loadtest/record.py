"""What became of each request that a workload offered: what every target writes, and every metric and report reads.

Times are seconds: ``planned_s``, ``sent_s`` and ``ended_s`` since the beginning of the run, those of chunks since the
request was sent. Nothing here is computed by a server but what says so. One record is one line of a JSONL file.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, NamedTuple


class Outcome(StrEnum):
    """How it ended."""

    FINISHED = "finished"
    REFUSED = "refused"
    """Turned away before any work: 429 or 503, or whatever the target's refusal is."""
    FAILED = "failed"
    """Anything else that went wrong: an error, a broken connection, a stream that ended early, a time-out of ours."""
    CANCELLED = "cancelled"
    """By the harness, because it was told to leave midway, or to stop."""


class Chunk(NamedTuple):
    """A piece of the answer that brought tokens. tokens: how many; 1 where the target doesn't say."""

    at_s: float
    tokens: int


class RecordError(ValueError):
    """A line is no record; the sentence says which, and why."""


@dataclass(frozen=True, slots=True)
class Record:
    """One offered request.

    place: in the workload. queued_s: how long it waited for a seat, where the harness has so many only, before
    planned_s. input_tokens, max_tokens: as the workload has it; prompt_tokens, completion_tokens,
    cached_tokens: as the target counted, None where it doesn't. cause: a short word that groups refusals and failures
    ("slo_unattainable", "http 500", "connection reset", "time-out"); detail: the target's sentence. status: of HTTP.
    predicted_ttft_s, retry_after_s, prefill, decode: what a Moonpool says beside its answer.
    """

    place: int
    planned_s: float
    sent_s: float
    input_tokens: int
    max_tokens: int
    outcome: Outcome
    ended_s: float
    chunks: tuple[Chunk, ...] = ()
    cause: str = ""
    detail: str = ""
    status: int | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    retry_after_s: float | None = None
    predicted_ttft_s: float | None = None
    prefill: str | None = None
    decode: str | None = None
    request_id: str = ""
    queued_s: float = 0.0

    @property
    def finished(self) -> bool:
        return self.outcome is Outcome.FINISHED

    @property
    def lag_s(self) -> float:
        """How much later than planned the harness sent it."""
        return self.sent_s - self.planned_s

    @property
    def ttft_s(self) -> float | None:
        """From sending it to the first chunk with tokens; None where none came."""
        return self.chunks[0].at_s if self.chunks else None


@dataclass(frozen=True, slots=True)
class PoolSample:
    """One role's workers at one moment of the run.

    kv_used: share of their device blocks; queued_tokens: of prompts, still to be computed.
    """

    at_s: float
    role: str
    workers: int
    running: int
    waiting: int
    kv_used: float | None = None
    queued_tokens: int | None = None


def to_line(item: Record | PoolSample) -> str:
    """Without a line end. Fields that hold their default are left out."""
    default = {field.name: field.default for field in fields(item)}
    found = {name: value for name, value in asdict(item).items() if value != default[name]}
    return json.dumps(found, separators=(",", ":"))


def records(lines: Iterable[str], *, source: str) -> Iterator[Record]:
    """Raises RecordError, naming source and line."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield _record(json.loads(line))
            except (ValueError, TypeError, KeyError) as error:
                raise RecordError(f"{source}, line {number}: no record: {error}") from error


def pool_samples(lines: Iterable[str], *, source: str) -> Iterator[PoolSample]:
    """Raises RecordError, naming source and line."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield PoolSample(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise RecordError(f"{source}, line {number}: no sample of a pool: {error}") from error


def _record(found: dict[str, Any]) -> Record:  # Any: JSON
    chunks = tuple(Chunk(float(at_s), int(tokens)) for at_s, tokens in found.pop("chunks", ()))
    return Record(outcome=Outcome(found.pop("outcome")), chunks=chunks, **found)
