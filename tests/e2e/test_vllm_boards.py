"""vLLM's boards, as they are, over a cluster of two hosts under load: every panel has figures, and the right ones.

The load test's own counts are what is right. Counters are read before and after, by the boards' own expressions
without their ``rate``, which extrapolates.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.grafana.overview import DASHBOARD
from tests.e2e.cluster import Cluster, eventually
from tests.e2e.prometheus import RATE, answer, installed, prometheus, targets_of, values
from tests.field.vllm_boards import BOARDS, KV_CACHE, NEVER, OVERVIEW, QUERY, STOCK, Board

pytestmark = [pytest.mark.slow, installed, pytest.mark.timeout(300)]

TOLERANCE = 0.02
AT_ONCE = 8
REQUESTS = 160
PROFILE = '{"prefill_s": [0, 0.0001, 0], "step_s": [0.02, 0, 0], "transfer_s": [0, 0]}'
"""A prompt token takes 0.1 ms and a step 20 ms, so that all that run at once are seen to."""

FLAGS = ("--hosts", "2", "--prefill", "2", "--decode", "1", "--inline-max-tokens", "64")
LOAD = (
    *("--workload", "shared-prefix", "--num-prompts", str(REQUESTS), "--prefixes", "4", "--prefix-len", "192"),
    *("--input-len", "80", "--output-len", "40", "--max-concurrency", str(AT_ONCE)),
)

Figures = Mapping[str, Any]  # JSON's values


@dataclass(frozen=True, slots=True)
class Observed:
    """One run of load, and the Prometheus that watched it. before, after: times of scrapes around it."""

    http: httpx.Client
    summary: Figures
    before: float
    after: float
    silent: frozenset[tuple[str, str, str]]
    """Queries that had no figure at any time, by board and panel."""

    def gained(self, query: str) -> float:
        """By how much the sum of what it finds has grown."""
        return sum(values(self.http, query, at=self.after)) - sum(values(self.http, query, at=self.before))


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    directory = tmp_path_factory.mktemp("boards")
    settings = {"MOONPOOL_METRICS_PORT": "0", "MOONPOOL_TOY_PROFILE": PROFILE}
    cluster = Cluster(directory, *FLAGS, settings=settings)
    try:
        with prometheus(directory, targets_of(cluster.ready())) as http:
            scraped = "count(count_over_time(up[1m]) > 3) == 7 and sum(up) == 7"
            eventually("every process is scraped", lambda: values(http, scraped), 30.0)
            yield watch(http, cluster, directory)
    finally:
        cluster.stop()


def watch(http: httpx.Client, cluster: Cluster, directory: Path) -> Observed:
    """Ask every board while the load test runs."""
    silent = {(board.title, panel, query) for board in BOARDS for panel, query in board.queries()}
    loads = [sys.executable, "-m", "moonpool", "loadtest", "run", "--url", cluster.url, *LOAD]
    warm = ["--num-prompts", "4", "--out", str(directory / "warm")]
    subprocess.run([*loads, *warm], check=True, capture_output=True, timeout=120)
    before = settled(http)
    with (directory / "load.log").open("wb") as log:
        load = subprocess.Popen([*loads, "--out", str(directory / "run")], stdout=log, stderr=subprocess.STDOUT)
        try:
            while load.poll() is None:
                for board in BOARDS:
                    chosen = variables(http, board)
                    asked = [it for it in silent if it[0] == board.title]
                    silent -= {it for it in asked if values(http, filled(it[2], chosen))}
        finally:
            load.kill()
            load.wait()
    assert load.returncode == 0, (directory / "load.log").read_text()
    summary = json.loads((directory / "run" / "summary.json").read_text())
    return Observed(http, summary, before, settled(http), frozenset(silent))


def settled(http: httpx.Client) -> float:
    """The time of a scrape that has all that was told by now: nothing runs, and counters stand still."""
    sampled = "sum(increase(vllm:generation_tokens_total[3s])) == 0 and sum(vllm:num_requests_running) == 0"
    eventually("nothing goes on", lambda: values(http, sampled), 60.0)
    return time.time()


def variables(http: httpx.Client, board: Board) -> dict[str, str]:
    """What Grafana has for each when *All* is chosen: all values that there are."""
    chosen: dict[str, str] = {}
    for name, metric, label in board.variables:
        found = answer(http, f"/label/{label}/values", **{"match[]": filled(metric, chosen)}) or []
        chosen[name] = found[0] if len(found) == 1 else f"({'|'.join(map(re.escape, found))})"
    return chosen


def filled(query: str, chosen: Mapping[str, str]) -> str:
    """With values for every variable, those that Grafana itself has included."""
    for name, value in {**chosen, "__rate_interval": RATE, "__interval": RATE, "__range": "1m"}.items():
        query = query.replace(f"${name}", value.replace("\\", "\\\\"))
    assert "$" not in query, query
    return query


def counted(query: str) -> str:
    """Of an expression over time, what it is of: without rate or increase, and their ranges."""
    return re.sub(r"(?:rate|increase)\((\S+?(?:\{.*?\})?)\[[^]]*\]\)", r"\1", query)


def test_every_panel_shows_something_but_those_of_what_is_not_here(observed: Observed) -> None:
    unexplained = {it for it in observed.silent if not any(re.search(never, it[2]) for never in NEVER)}
    assert unexplained == set()


def test_what_is_said_to_stay_empty_does(observed: Observed) -> None:
    for never, why in NEVER.items():
        said = {(board.title, *it) for board in BOARDS for it in board.queries() if re.search(never, it[1])}
        assert said, why
        assert said <= observed.silent, why


@pytest.mark.parametrize(
    ("board", "panel", "place", "figure"),
    [
        (OVERVIEW, "Requests / s", 0, "completed"),
        (OVERVIEW, "Input tok/s", 0, "total_input_tokens"),
        (OVERVIEW, "Output tok/s", 0, "total_output_tokens"),
        (OVERVIEW, "Finished requests by reason", 0, "completed"),
        (STOCK, "Finish Reason", 0, "completed"),
        (STOCK, "Token Throughput", 0, "total_input_tokens"),
        (STOCK, "Token Throughput", 1, "total_output_tokens"),
        (STOCK, "Max Generation Token in Sequence Group", 0, "total_output_tokens"),
        (QUERY, "Requests Avg Rate", 0, "completed"),
        (QUERY, "Input Tokens", 0, "total_input_tokens"),
        (QUERY, "Output Tokens", 0, "total_output_tokens"),
    ],
    ids=lambda it: it.title if isinstance(it, Board) else str(it),
)
def test_a_panel_counts_what_the_load_test_counts(
    observed: Observed, board: Board, panel: str, place: int, figure: str
) -> None:
    query = board.panels[panel][place].replace("@", board.selector).replace("$R", RATE)
    query = counted(filled(query, variables(observed.http, board)))
    assert observed.gained(query) == pytest.approx(observed.summary[figure], rel=TOLERANCE)


@pytest.mark.parametrize(
    ("panel", "place", "figure"),
    [
        ("Tokens", 0, "total_input_tokens"),
        ("Tokens", 1, "total_cached_tokens"),
        ("Tokens", 2, "total_output_tokens"),
        ("Requests per second", 0, "completed"),
        ("By status", 0, "completed"),
    ],
)
def test_a_panel_of_our_own_counts_what_the_load_test_counts(
    observed: Observed, panel: str, place: int, figure: str
) -> None:
    query = next(each for each in DASHBOARD.panels if each.title == panel).queries[place].expr
    query = counted(query.replace("$__rate_interval", RATE))
    assert observed.gained(query) == pytest.approx(observed.summary[figure], rel=TOLERANCE)


@pytest.mark.parametrize(
    "name",
    [
        "vllm:time_to_first_token_seconds",
        "vllm:e2e_request_latency_seconds",
        "vllm:request_queue_time_seconds",
        "vllm:request_prefill_time_seconds",
        "vllm:request_decode_time_seconds",
        "vllm:request_inference_time_seconds",
        "vllm:request_time_per_output_token_seconds",
        "vllm:request_prompt_tokens",
        "vllm:request_generation_tokens",
        "vllm:request_prefill_kv_computed_tokens",
        "vllm:request_params_n",
        "vllm:request_params_max_tokens",
        "vllm:request_max_num_generation_tokens",
    ],
)
def test_a_histogram_has_each_request_once(observed: Observed, name: str) -> None:
    assert observed.gained(f"sum({name}_count)") == pytest.approx(observed.summary["completed"], rel=TOLERANCE)


@pytest.mark.parametrize(
    ("query", "figure"),
    [
        ("sum(vllm:prompt_tokens_by_source_total)", "total_input_tokens"),
        ('sum(vllm:prompt_tokens_by_source_total{source="local_compute"})', "total_computed_tokens"),
        ("sum(vllm:prompt_tokens_cached_total)", "total_cached_tokens"),
        ("sum(vllm:prompt_tokens_cached_by_source_total)", "total_cached_tokens"),
        ("sum(vllm:prefix_cache_hits_total) + sum(vllm:external_prefix_cache_hits_total)", "total_cached_tokens"),
        ("sum(vllm:prefix_cache_queries_total)", "total_input_tokens"),
        ("sum(vllm:request_prefill_kv_computed_tokens_sum)", "total_computed_tokens"),
        ("sum(vllm:request_prompt_tokens_sum)", "total_input_tokens"),
        ("sum(vllm:request_generation_tokens_sum)", "total_output_tokens"),
        ('sum(moonpool_gateway_requests_total{status="200"})', "completed"),
        ('sum(http_requests_total{handler="/v1/completions"})', "completed"),
        ("sum(moonpool_gateway_text_seconds_count)", "completed"),
        ("sum(moonpool_gateway_predicted_ttft_seconds_count)", "completed"),
    ],
)
def test_tokens_by_source_and_our_own_counts_add_up(observed: Observed, query: str, figure: str) -> None:
    assert observed.gained(query) == pytest.approx(observed.summary[figure], rel=TOLERANCE)


def test_reuse_is_seen_on_devices_and_in_stores(observed: Observed) -> None:
    cached = "sum(vllm:prompt_tokens_cached_by_source_total{{source=~'{}'}})"
    assert observed.gained(cached.format("device")) > 0
    assert observed.gained(cached.format("host|disk|p2p")) > 0


def test_what_runs_at_once_is_what_the_load_test_had_at_once(observed: Observed) -> None:
    """Of the only worker that decodes: a sum over several is of scrapes half a second apart."""
    most = values(observed.http, 'max_over_time(vllm:num_requests_running{role="decode"}[2m])')
    assert most == [pytest.approx(observed.summary["max_concurrent_requests"], rel=TOLERANCE)]
    assert values(observed.http, "count(vllm:num_requests_running)") == [3], "an engine for each worker"


def test_each_of_vllms_names_has_one_owner_and_vllms_labels(observed: Observed) -> None:
    named = '{__name__=~"vllm:.*"}'
    assert values(observed.http, f"count by (__name__) (count by (__name__, job) ({named})) > 1") == []
    assert values(observed.http, 'count({__name__=~"vllm:.*", engine!="0"})') == []
    unnamed = values(observed.http, 'count({__name__=~"vllm:.*", model_name=""}) by (__name__)')
    assert unnamed == values(observed.http, "count(vllm:cache_config_info)"), "as in vLLM"


def test_the_mean_of_first_tokens_is_the_clients(observed: Observed) -> None:
    """Not to a hundredth: a client's clock begins before the gateway's, and ends after it."""
    mean_s = observed.gained("sum(vllm:time_to_first_token_seconds_sum)") / observed.summary["completed"]
    assert 0.5 < 1000 * mean_s / observed.summary["mean_ttft_ms"] < 1.02


def test_probes_are_no_http_requests_and_answers_had_no_errors(observed: Observed) -> None:
    """The supervisor asks /health from the beginning, when it is 503, and Prometheus asks /metrics."""
    assert values(observed.http, 'http_requests_total{handler=~"/health|/ready|/live|/metrics"}') == []
    assert values(observed.http, 'http_requests_total{handler=~"/v1/.*", status="5xx"}') == []


def test_waiting_by_reason_is_all_that_waits(observed: Observed) -> None:
    apart = "max_over_time(abs(sum(vllm:num_requests_waiting) - sum(vllm:num_requests_waiting_by_reason))[2m:500ms])"
    assert values(observed.http, apart) == [0]


def test_the_kv_page_is_of_workers(observed: Observed) -> None:
    query = filled(dict(KV_CACHE.queries())["KV cache usage by engine"], variables(observed.http, KV_CACHE))
    assert len(values(observed.http, query)) == 3
