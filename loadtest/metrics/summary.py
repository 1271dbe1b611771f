"""A run in one JSON document: ``vllm bench serve``'s keys with its definitions, and what it doesn't tell.

Latencies are of finished requests. Whatever is counted over *offered* requests counts refused and failed ones too:
a system that refuses everything has no bad latency, and no good request either.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Any

from loadtest.metrics import peaks
from loadtest.metrics.prediction import prediction
from loadtest.metrics.slo import MS, Slo, good
from loadtest.metrics.spread import named, spread
from loadtest.metrics.timing import e2el_s, input_tokens, itls_s, output_tokens, request_tbt_s, tpot_s
from loadtest.record import Outcome, Record
from loadtest.workload.ramps import Ramp

Summary = dict[str, Any]  # JSON


@dataclass(frozen=True, slots=True)
class Facts:
    """What records don't say. duration_s: of the run; None: until the last request was over. paced: requests had times
    to be sent at.

    settings: as given, whatever they are; harness: what the harness says of itself, its warnings among it.
    """

    when: datetime
    backend: str = ""
    endpoint_type: str = ""
    label: str | None = None
    model_id: str | None = None
    tokenizer_id: str | None = None
    request_rate: float = inf
    burstiness: float = 1.0
    ramp: Ramp | None = None
    paced: bool = True
    max_concurrency: int | None = None
    slos: tuple[Slo, ...] = ()
    duration_s: float | None = None
    interrupted: bool = False
    settings: dict[str, Any] = field(default_factory=dict)  # JSON
    harness: dict[str, Any] = field(default_factory=dict)  # JSON


def summary(records: Sequence[Record], facts: Facts) -> Summary:
    finished = [record for record in records if record.finished]
    counts = Counter(record.outcome for record in records)
    duration_s = max((record.ended_s for record in records), default=0.0)
    if facts.duration_s is not None:
        duration_s = facts.duration_s
    return {
        "date": facts.when.strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": facts.endpoint_type,
        "backend": facts.backend,
        "label": facts.label,
        "model_id": facts.model_id,
        "tokenizer_id": facts.tokenizer_id,
        "num_prompts": len(records),
        "request_rate": _or_word(facts.request_rate),
        "burstiness": _or_word(facts.burstiness),
        **_ramp(facts.ramp),
        "max_concurrency": facts.max_concurrency,
        "duration": duration_s,
        "completed": len(finished),
        "failed": counts[Outcome.FAILED] + counts[Outcome.REFUSED],
        **_throughput(finished, duration_s),
        "max_concurrent_requests": peaks.concurrent(records),
        **_latencies(finished),
        **_queued(finished, facts),
        "refused": counts[Outcome.REFUSED],
        "cancelled": counts[Outcome.CANCELLED],
        "refusals_by_cause": _causes(records, Outcome.REFUSED),
        "failures_by_cause": _causes(records, Outcome.FAILED),
        **_promises(records, facts.slos, duration_s),
        **_cached(finished),
        "ttft_prediction": prediction(finished),
        "offered_request_rate": _offered_rate(records),
        **named("lag_ms", spread((record.lag_s for record in records), unit=MS)),
        "interrupted": facts.interrupted,
        "harness": facts.harness,
        "settings": facts.settings,
    }


def _throughput(finished: Sequence[Record], duration_s: float) -> Summary:
    given, got = sum(map(input_tokens, finished)), sum(map(output_tokens, finished))
    return {
        "total_input_tokens": given,
        "total_output_tokens": got,
        "request_throughput": _rate(len(finished), duration_s),
        "output_throughput": _rate(got, duration_s),
        "total_token_throughput": _rate(given + got, duration_s),
        "max_output_tokens_per_s": peaks.tokens_per_s(finished),
    }


def _latencies(finished: Sequence[Record]) -> Summary:
    values: dict[str, list[float | None] | list[float]] = {
        "ttft_ms": [record.ttft_s for record in finished],
        "tpot_ms": [tpot_s(record) for record in finished],
        "itl_ms": [gap for record in finished for gap in itls_s(record)],
        "e2el_ms": [e2el_s(record) for record in finished],
        "tbt_ms": [request_tbt_s(record) for record in finished],
    }
    found: Summary = {}
    for name, seconds in values.items():
        found |= named(name, spread((value for value in seconds if value is not None), unit=MS))
    return found


def _queued(finished: Sequence[Record], facts: Facts) -> Summary:
    """What a bound on concurrency keeps out of all other latencies; nulls without one. The sum is null, too, where all
    was to be sent at once: that is no plan to be late for.
    """
    bounded = facts.max_concurrency is not None
    waited = [record.queued_s for record in finished] if bounded else []
    whole = [record.queued_s + last for record in finished if (last := e2el_s(record)) is not None]
    return {
        **named("client_queue_time_ms", spread(waited, unit=MS)),
        **named("e2el_including_client_queue_ms", spread(whole if bounded and facts.paced else [], unit=MS)),
    }


def _ramp(ramp: Ramp | None) -> Summary:
    return {
        "ramp_up_strategy": None if ramp is None else ramp.strategy.value,
        "ramp_up_start_rps": None if ramp is None else ramp.start_per_s,
        "ramp_up_end_rps": None if ramp is None else ramp.end_per_s,
    }


def _or_word(value: float) -> float | str:
    return "inf" if value == inf else value


def _promises(records: Sequence[Record], slos: Sequence[Slo], duration_s: float) -> Summary:
    """Without bounds there is nothing to be good at: nulls."""
    if not slos:
        return {"request_goodput": None, "slo_attainment": None, "slo_attainment_by": {}}
    judged = [good(record, slos) for record in records]
    return {
        "request_goodput": _rate(judged.count(True), duration_s),
        "slo_attainment": _share(judged),
        "slo_attainment_by": {str(slo): _share([slo.kept(record) for record in records]) for slo in slos},
    }


def _cached(finished: Sequence[Record]) -> Summary:
    """Of those requests whose server says; null where none does."""
    told = [record for record in finished if record.cached_tokens is not None]
    tokens, of = sum(record.cached_tokens or 0 for record in told), sum(map(input_tokens, told))
    return {
        "total_cached_tokens": tokens if told else None,
        "total_computed_tokens": of - tokens if told else None,
        "cached_token_share": tokens / of if of else None,
    }


def _causes(records: Sequence[Record], outcome: Outcome) -> dict[str, int]:
    return dict(Counter(record.cause for record in records if record.outcome is outcome).most_common())


def _offered_rate(records: Sequence[Record]) -> float | None:
    """Requests by the time until the last was sent: what arrived, whatever became of it."""
    last_s = max((record.sent_s for record in records), default=0.0)
    return len(records) / last_s if last_s > 0.0 else None


def _share(judged: Sequence[bool | None]) -> float | None:
    known = [each for each in judged if each is not None]
    return sum(known) / len(known) if known else None


def _rate(number: int, duration_s: float) -> float:
    return number / duration_s if duration_s > 0.0 else 0.0
