"""A summary for people."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table

FIGURES = ("mean", "median", "p90", "p99")
LATENCIES = {
    "ttft_ms": "TTFT, ms",
    "tpot_ms": "TPOT, ms",
    "itl_ms": "ITL, ms",
    "tbt_ms": "TBT, ms",
    "e2el_ms": "E2EL, ms",
    "client_queue_time_ms": "waiting for a seat, ms",
    "lag_ms": "harness's lag, ms",
}


def table(found: Mapping[str, Any]) -> Group:  # Any: JSON
    """Latencies, and beneath them what else there is to say."""
    title = f"{found['completed']} of {found['num_prompts']} requests in {found['duration']:.1f} s"
    latencies = Table(title=title, title_justify="left")
    for column in ("", *FIGURES):
        latencies.add_column(column, justify="right" if column else "left")
    for name, words in LATENCIES.items():
        if name == "client_queue_time_ms" and found["max_concurrency"] is None:
            continue
        latencies.add_row(words, *(shown(found[f"{figure}_{name}"]) for figure in FIGURES))
    rest = Table(show_header=False)
    for name, value in _rest(found).items():
        rest.add_row(name, value)
    return Group(latencies, rest)


def shown(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _rest(found: Mapping[str, Any]) -> dict[str, str]:
    rows = {
        "requests a second: offered, completed": f"{shown(found['offered_request_rate'], 2)}, "
        f"{found['request_throughput']:.2f}",
        "tokens a second: output, all": f"{found['output_throughput']:,.1f}, {found['total_token_throughput']:,.1f}",
        "tokens: input, output": f"{found['total_input_tokens']:,}, {found['total_output_tokens']:,}",
        "most at once: requests, output tokens a second": f"{found['max_concurrent_requests']:,}, "
        f"{found['max_output_tokens_per_s']:,.0f}",
    }
    if found["slo_attainment"] is not None:
        rows["good, of all offered"] = f"{found['slo_attainment']:.1%}"
        rows |= {f"  within {name}": f"{share:.1%}" for name, share in found["slo_attainment_by"].items()}
        rows["good requests a second"] = f"{found['request_goodput']:.2f}"
    if found["cached_token_share"] is not None:
        rows["prompt tokens found in caches, computed"] = (
            f"{found['cached_token_share']:.1%}, {found['total_computed_tokens']:,}"
        )
    if (prediction := found["ttft_prediction"]) is not None:
        rows["predicted TTFT is off by, in the median"] = f"{prediction['median_absolute_error']:.1%}"
    rows |= {f"refused: {cause}": f"{count:,}" for cause, count in found["refusals_by_cause"].items()}
    rows |= {f"failed: {cause}": f"{count:,}" for cause, count in found["failures_by_cause"].items()}
    if found["cancelled"]:
        rows["left by the harness"] = f"{found['cancelled']:,}"
    return rows
