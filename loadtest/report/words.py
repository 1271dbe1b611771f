"""A summary in words and units, for people: which of its keys is which line of a table."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from loadtest.metrics.spread import FIGURES
from loadtest.paired import ratio_as
from loadtest.report.run import Run

Cells = tuple[str, ...]
"""A line: what it is, then one for each run."""

LATENCIES = {
    "ttft": "TTFT, time to first token",
    "tpot": "TPOT, time per output token after the first",
    "itl": "ITL, gaps between tokens",
    "tbt": "TBT, mean of a request's longest tenth of gaps",
    "e2el": "E2EL, until the last token",
    "client_queue_time": "waiting in the harness for a seat",
    "e2el_including_client_queue": "E2EL and that wait",
    "lag": "lag, how late the harness sent them",
}


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _rate(value: float) -> str:
    return f"{value:,.3g}" if value < 100.0 else f"{value:,.0f}"


def _share(value: float) -> str:
    return f"{100.0 * value:.1f} %"


COUNTS: dict[str, tuple[str, Callable[[Any], str]]] = {  # Any: JSON's values
    "num_prompts": ("requests offered", _number),
    "completed": ("finished", _number),
    "refused": ("refused", _number),
    "failed": ("failed, refused ones among them", _number),
    "cancelled": ("cancelled by the harness", _number),
    "duration": ("duration, s", lambda value: f"{value:,.1f}"),
    "offered_request_rate": ("rate offered, requests per second", _rate),
    "max_concurrency": ("at most so many at once, asked", _number),
    "max_concurrent_requests": ("the most at once", _number),
    "request_throughput": ("finished requests per second", _rate),
    "request_goodput": ("goodput: requests per second within the bounds", _rate),
    "slo_attainment": ("within the bounds, of those offered", _share),
    "output_throughput": ("output tokens per second", _rate),
    "total_token_throughput": ("input and output tokens per second", _rate),
    "max_output_tokens_per_s": ("the most output tokens in a second", _rate),
    "total_input_tokens": ("input tokens", _number),
    "total_output_tokens": ("output tokens", _number),
    "total_cached_tokens": ("input tokens found cached", _number),
    "total_computed_tokens": ("input tokens computed", _number),
    "cached_token_share": ("share of input tokens found cached", _share),
}
SHOWN = tuple(figure for figure in FIGURES if figure != "p50")
"""The median is told once."""

TOLD_ELSEWHERE = {
    *("date", "request_rate", "ramp_up_strategy", "ramp_up_start_rps", "ramp_up_end_rps"),
    *("refusals_by_cause", "failures_by_cause", "slo_attainment_by", "ttft_prediction", "settings"),
}


def asked_of(run: Run) -> Cells:
    """What was asked, and who: all that is known."""
    found = run.summary
    settings = found.get("settings") or {}
    who = "the simulator" if found.get("backend") == "simulator" else settings.get("url") or ""
    workload = f"workload {settings['workload']}" if settings.get("workload") else ""
    return tuple(str(fact) for fact in (found.get("model_id"), who, workload) if fact)


def date(text: str) -> str:
    """Of ``20260301-120000``, which is UTC; another is left as it is."""
    try:
        return datetime.strptime(text, "%Y%m%d-%H%M%S").replace(tzinfo=UTC).strftime("%d %B %Y, %H:%M:%S UTC")
    except ValueError:
        return text


def counts(runs: Sequence[Run]) -> Iterator[Cells]:
    if any(run.summary for run in runs):
        yield ("rate asked, requests per second", *(_asked(run) for run in runs))
    for key, (words, told) in COUNTS.items():
        if any(run.summary.get(key) is not None for run in runs):
            yield (words, *(_told(told, run.summary.get(key)) for run in runs))
    bounds = dict.fromkeys(bound for run in runs for bound in run.summary.get("slo_attainment_by") or {})
    for bound in bounds:
        name, _, milliseconds = bound.partition(":")
        shares = ((run.summary.get("slo_attainment_by") or {}).get(bound) for run in runs)
        yield (f"within {name.upper()} of {milliseconds} ms", *(_told(_share, share) for share in shares))
    if any(run.summary.get("ttft_prediction") for run in runs):
        found = ((run.summary.get("ttft_prediction") or {}).get("median_absolute_error") for run in runs)
        yield ("predicted TTFT, median absolute error", *(_told(_share, error) for error in found))


def _asked(run: Run) -> str:
    found = run.summary
    settings = found.get("settings") or {}
    if (strategy := found.get("ramp_up_strategy")) is not None:
        return f"{_rate(found['ramp_up_start_rps'])} to {_rate(found['ramp_up_end_rps'])}, {strategy}"
    if settings.get("workload") == "trace":
        return f"the trace's, {settings.get('speed', 1.0):g} times as fast"
    rate = found.get("request_rate")
    return "–" if rate is None else "all at once" if rate == "inf" else _rate(float(rate))


def latencies(run: Run) -> Iterator[Cells]:
    """Milliseconds; the columns are ``SHOWN``."""
    for name, words in LATENCIES.items():
        found = [run.summary.get(f"{figure}_{name}_ms") for figure in SHOWN]
        if any(value is not None for value in found):
            yield (words, *(_told(lambda value: f"{value:,.1f}", value) for value in found))


def measure(found: dict[str, Any]) -> Cells:  # Any: JSON
    """A line of a comparison."""
    low, high = found["low"], found["high"]
    interval = "–" if low is None or high is None else f"{ratio_as(low)} to {ratio_as(high)}"
    ratio = ratio_as(found["ratio"])
    return (found["words"], _rate(found["a"]), _rate(found["b"]), ratio, interval, found["verdict"])


def differences(found: dict[str, Any]) -> Iterator[Cells]:  # Any: JSON
    """What a comparison's two sides were told that is not the same."""
    a, b = found.get("a") or {}, found.get("b") or {}
    for name in dict.fromkeys([*a, *b]):
        if a.get(name) != b.get(name):
            yield (name, *(_setting(side.get(name)) for side in (a, b)))


def settings(run: Run) -> Iterator[Cells]:
    """What was asked for, and whatever else the summary says that no other table does."""
    shown = {*COUNTS, *TOLD_ELSEWHERE}
    shown |= {f"{figure}_{name}_ms" for figure in FIGURES for name in LATENCIES}
    rest = {key: value for key, value in run.summary.items() if key not in shown}
    yield from _flat({**rest, **(run.summary.get("settings") or {})})


def _flat(found: dict[str, Any], prefix: str = "") -> Iterator[Cells]:  # Any: JSON
    for key, value in found.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif value not in (None, "", []):
            yield (f"{prefix}{key}", _setting(value))


def _told(told: Callable[[Any], str], value: Any) -> str:  # Any: JSON's values
    return "–" if value is None else told(value)


def _setting(value: Any) -> str:  # Any: JSON's values
    if value in (None, "", []):
        return "–"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
