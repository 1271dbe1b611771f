"""What vLLM's Grafana boards ask of Prometheus: every query, by board and panel, with the variables that it goes by.

Facts, not the boards: queries only, with a board's own selector written once (``@``) and ``$R`` for $__rate_interval.
A variable's value is what Grafana makes of *All*: every value that ``label_values`` finds, so an instance without
``vllm:num_requests_running`` is in no panel of the newer four.
"""

from collections.abc import Iterator
from dataclasses import dataclass

SDIST = "vllm 0.32.0 and 0.33.0 (PyPI, sdist; both have the same): examples/observability/"
GITHUB = "github.com/vllm-project/vllm: examples/observability/dashboards/grafana/"

TTFT, ITL = "vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds"
TPOT, E2E = "vllm:request_time_per_output_token_seconds", "vllm:e2e_request_latency_seconds"
QUEUE, PREFILL, DECODE = (f"vllm:request_{phase}_time_seconds" for phase in ("queue", "prefill", "decode"))
PROMPT, GENERATION = "vllm:prompt_tokens_total", "vllm:generation_tokens_total"
PROMPT_OF, GENERATION_OF = "vllm:request_prompt_tokens", "vllm:request_generation_tokens"
SUCCESS, STEP = "vllm:request_success_total", "vllm:iteration_tokens_total"
RUNNING, WAITING, REASONS = (f"vllm:num_requests_{which}" for which in ("running", "waiting", "waiting_by_reason"))
KV, PREEMPTIONS = "vllm:kv_cache_usage_perc", "vllm:num_preemptions_total"
SOURCE, CACHED = "vllm:prompt_tokens_by_source_total", "vllm:prompt_tokens_cached_total"
AWAKE, HTTP = "vllm:engine_sleep_state", "http_requests_total"
OPERATIONS = tuple(f"vllm:{kind}_operation_duration_seconds" for kind in ("sleep_mode", "rl_weight_update"))


@dataclass(frozen=True, slots=True)
class Board:
    """variables: name and metric with its selector and label, in the order in which one goes by those before it."""

    title: str
    source: str
    selector: str
    variables: tuple[tuple[str, str, str], ...]
    panels: dict[str, tuple[str, ...]]

    def queries(self) -> Iterator[tuple[str, str]]:
        """Panel and expression, as Grafana has them before it puts values for variables."""
        for panel, queries in self.panels.items():
            for query in queries:
                yield panel, query.replace("@", self.selector).replace("$R", "$__rate_interval")


def quantiles(name: str, *of: float, by: str = "le", over: str = "$R") -> tuple[str, ...]:
    return tuple(f"histogram_quantile({each}, sum by ({by}) (rate({name}_bucket{{@}}[{over}])))" for each in of)


def share(part: str, whole: str, by: str = "") -> str:
    return f"sum{by}(rate({part}[$R])) / (sum{by}(rate({whole}[$R])) > 0)"


def mean(name: str, by: str = "") -> str:
    return share(f"{name}_sum{{@}}", f"{name}_count{{@}}", by)


def spread(name: str) -> tuple[str, ...]:
    return (*quantiles(name, 0.5, 0.95, 0.99), mean(name))


def hits(kind: str, by: str = "") -> str:
    return share(f"vllm:{kind}_cache_hits_total{{@}}", f"vllm:{kind}_cache_queries_total{{@}}", by)


def rates(*names: str) -> tuple[str, ...]:
    return tuple(f"sum(rate({name}{{@}}[$R]))" for name in names)


SOURCES = tuple(f'sum(rate({SOURCE}{{@, source="{each}"}}[$R]))' for each in (
    "local_compute", "local_cache_hit", "external_kv_transfer",
))  # fmt: skip
QUEUED = tuple(f'sum({REASONS}{{@, reason="{reason}"}})' for reason in ("capacity", "deferred"))
CACHES = tuple(hits(kind) for kind in ("prefix", "external_prefix", "mm"))
ENGINE = " by (instance, engine) "

STOCK = Board(
    "vLLM",
    SDIST + "prometheus_grafana/grafana.json",
    'model_name="$model_name"',
    (("model_name", RUNNING, "model_name"),),  # label_values(model_name), of whatever metric
    {
        **{
            title: (*quantiles(name, 0.99, 0.95, 0.9, 0.5), f"rate({name}_sum{{@}}[$R]) / rate({name}_count{{@}}[$R])")
            for title, name in (
                ("E2E Request Latency", E2E),
                ("Inter Token Latency", ITL),
                ("Time Per Output Token (TPOT)", TPOT),
                ("Time To First Token Latency", TTFT),
            )
        },
        "Token Throughput": (f"rate({PROMPT}{{@}}[$R])", f"rate({GENERATION}{{@}}[$R])"),
        "Scheduler State": (RUNNING + "{@}", WAITING + "{@}"),
        "Cache Utilization": (KV + "{@}",),
        "Request Prompt Length": (f"sum by(le) (increase({PROMPT_OF}_bucket{{@}}[$R]))",),
        "Request Generation Length": (f"sum by(le) (increase({GENERATION_OF}_bucket{{@}}[$R]))",),
        "Finish Reason": (f"sum by(finished_reason) (increase({SUCCESS}{{@}}[$R]))",),
        "Queue Time": (f"rate({QUEUE}_sum{{@}}[$R])",),
        "Requests Prefill and Decode Time": (f"rate({PREFILL}_sum{{@}}[$R])", f"rate({DECODE}_sum{{@}}[$R])"),
        "Max Generation Token in Sequence Group": ("rate(vllm:request_max_num_generation_tokens_sum{@}[$R])",),
    },
)

PERFORMANCE = Board(
    "Performance Statistics",
    SDIST + "dashboards/grafana/performance_statistics.json",
    "",
    (),
    {
        f"{title} over time, avg, percentiles": (
            f"rate({name}_sum[$__interval]) / rate({name}_count[$__interval])",
            f"(sum(increase({name}_sum[$__range])) / sum(increase({name}_count[$__range])))",
            *quantiles(name, 0.5, 0.9, 0.99, over="$__range"),
        )
        for title, name in (("E2E Latency", E2E), ("TTFT", TTFT), ("ITL", ITL))
    }
    | {
        "ITL (Time Per Output Token) Over Time": quantiles(ITL, 0.5, 0.9, 0.99, over="$__interval"),
        "TPS (Tokens Per Second) Over Time": tuple(
            f"rate({name}[$__interval])" for name in (GENERATION, PROMPT, f"{STEP}_count")
        ),
    },
)

_OF_MODEL = " by (model_name) "
QUERY = Board(
    "Query Statistics_New4",
    SDIST + "dashboards/grafana/query_statistics.json",
    'model_name=~"$Deployment_id"',
    (("Deployment_id", SUCCESS, "model_name"),),
    {
        "Successful Requests Over Time": (f"sum{_OF_MODEL}(rate({SUCCESS}{{@}}[$R]))",),
        "Requests Avg Rate": rates(SUCCESS),
        "Latency": quantiles(E2E, 0.5, 0.9, 0.99, by="le, model_name"),
        "Input Token Size Distribution": (f"sum by (le, model_name) (rate({PROMPT_OF}_bucket{{@}}[$R]))",),
        "Input Token Size": quantiles(PROMPT_OF, 0.5, 0.9, 0.99, by="le, model_name"),
        "Input Token Size Avg": (f"sum(rate({PROMPT}{{@}}[$R])) / sum(rate({SUCCESS}{{@}}[$R]))",),
        "Input Tokens": (*rates(PROMPT), f"sum{_OF_MODEL}(rate({PROMPT}{{@}}[$R]))"),
        "Output Tokens": (*rates(GENERATION), f"sum{_OF_MODEL}(rate({GENERATION}{{@}}[$R]))"),
    },
)

_INSTANCE = 'job=~"$job", model_name=~"$model_name", instance=~"$instance"'
_ENGINE = f'{_INSTANCE}, engine=~"$engine"'
_PROCESS = 'job=~"$job", instance=~"$instance"'
_INSTANCES = (
    ("job", RUNNING, "job"),
    ("model_name", RUNNING + '{job=~"$job"}', "model_name"),
    ("instance", RUNNING + '{job=~"$job", model_name=~"$model_name"}', "instance"),
)
_ENGINES = (*_INSTANCES, ("engine", f"{RUNNING}{{{_INSTANCE}}}", "engine"))

OVERVIEW = Board(
    "vLLM / Overview",
    GITHUB + "vllm_overview.json at 0b9faa4138937a56ee61d7e2acb55b06fa12b44c",
    _INSTANCE,
    _INSTANCES,
    {
        "Requests / s": rates(SUCCESS),
        "Input tok/s": rates(PROMPT),
        "Output tok/s": rates(GENERATION),
        "5xx ratio": (
            f'(sum(rate({HTTP}{{{_PROCESS}, status="5xx"}}[$R])) or vector(0))'
            f" / (sum(rate({HTTP}{{{_PROCESS}}}[$R])) > 0)",
        ),
        "TTFT p95": quantiles(TTFT, 0.95),
        "ITL p95": quantiles(ITL, 0.95),
        "E2E p95": quantiles(E2E, 0.95),
        "Unreachable": ('count(up{job=~"$job"} == 0) or vector(0)',),
        "Engines": (f"count({RUNNING}{{@}})",),
        "Running": (f"sum({RUNNING}{{@}})",),
        "Waiting": (f"sum({WAITING}{{@}})",),
        "KV cache": (f"max({KV}{{@}})",),
        "Preemptions": rates(PREEMPTIONS),
        "Prefix hits": (hits("prefix"),),
        "TTFT SLO": (share(f'{TTFT}_bucket{{@, le="1.0"}}', f"{TTFT}_count{{@}}"),),
        "TPOT SLO": (share(f'{TPOT}_bucket{{@, le="0.1"}}', f"{TPOT}_count{{@}}"),),
        "Per-model summary": (
            f"count by (model_name) (group by (model_name, instance) (last_over_time({RUNNING}{{@}}[$__range])))",
            f"sum by (model_name) (rate({SUCCESS}{{@}}[$__range]))",
            f"sum by (model_name) (rate({GENERATION}{{@}}[$__range]))",
            *(quantiles(name, 0.95, by="le, model_name", over="$__range")[0] for name in (TTFT, ITL, E2E)),
            f'sum by (model_name) (rate({SUCCESS}{{@, finished_reason="error"}}[$__range]))'
            f" / (sum by (model_name) (rate({SUCCESS}{{@}}[$__range])) > 0)",
            f"max by (model_name) (max_over_time({KV}{{@}}[$__range]))",
            f"round(sum by (model_name) (increase({PREEMPTIONS}{{@}}[$__range])))",
        ),
        "Time to first token (TTFT)": spread(TTFT),
        "Inter-token latency (ITL)": spread(ITL),
        "Time per output token (TPOT)": spread(TPOT),
        "End-to-end latency": spread(E2E),
        "Queue time": spread(QUEUE),
        "Mean time per request phase": (mean(QUEUE), mean(PREFILL), mean(DECODE)),
        "TTFT, ITL, end-to-end distribution": tuple(
            f"sum by (le) (rate({name}_bucket{{@}}[$R]))" for name in (TTFT, ITL, E2E)
        ),
        "Token throughput": tuple(f"sum by (model_name) (rate({name}{{@}}[$R]))" for name in (PROMPT, GENERATION)),
        "Finished requests by reason": (f"sum by (finished_reason) (rate({SUCCESS}{{@}}[$R]))",),
        "Scheduler queue": (f"sum({RUNNING}{{@}})", *QUEUED),
        "KV cache usage": tuple(f"{of}({KV}{{@}})" for of in ("max", "avg", "min")),
        "Preemptions / s": rates(PREEMPTIONS),
        "Tokens per engine step": (*quantiles(STEP, 0.5, 0.99), mean(STEP)),
        "Cache hit rates": CACHES,
        "Prompt tokens by source": SOURCES,
        "Prompt length": spread(PROMPT_OF),
        "Output length": spread(GENERATION_OF),
        "Finish reason share": (
            f"sum by (finished_reason) (rate({SUCCESS}{{@}}[$R]))"
            f" / ignoring (finished_reason) group_left () (sum(rate({SUCCESS}{{@}}[$R])) > 0)",
        ),
        "Prompt and output length distribution": tuple(
            f"sum by (le) (increase({name}_bucket{{@}}[$__range]))"
            f" / on () group_left () (sum(increase({name}_count{{@}}[$__range])) > 0)"
            for name in (PROMPT_OF, GENERATION_OF)
        ),
        "HTTP requests by status": (f"sum by (status) (rate({HTTP}{{{_PROCESS}}}[$R]))",),
        "HTTP requests by endpoint": (f"sum by (handler) (rate({HTTP}{{{_PROCESS}}}[$R]))",),
        "HTTP mean duration by endpoint": (
            mean("http_request_duration_seconds", by=" by (handler) ").replace("@", _PROCESS),
        ),
    },
)

KV_CACHE = Board(
    "vLLM / KV Cache",
    GITHUB + "vllm_kv_cache.json at 5836216b154fcb32685152b85bd8d7e1e8c91c04",
    _ENGINE,
    _ENGINES,
    {
        "Max KV cache usage": (f"max({KV}{{@}})",),
        "Mean KV cache usage": (f"avg({KV}{{@}})",),
        "Prefix cache hit rate": (hits("prefix"),),
        "Cached prompt tokens": (share(f"{CACHED}{{@}}", f"{PROMPT}{{@}}"),),
        "Preemptions / s": rates(PREEMPTIONS),
        "Waiting for capacity": QUEUED[:1],
        "KV cache usage by engine": (f"max{ENGINE}({KV}{{@}})",),
        "Scheduler queue": (f"sum({RUNNING}{{@}})", *QUEUED),
        "Preemptions / s by engine": (f"sum{ENGINE}(rate({PREEMPTIONS}{{@}}[$R]))",),
        "Prompt tokens by source": SOURCES,
        "Prefix cache hit rate by engine": (hits("prefix", by=ENGINE),),
        "Cached prompt tokens by tier": ("sum by (source) (rate(vllm:prompt_tokens_cached_by_source_total{@}[$R]))",),
        "Prompt and computed tokens per request": (mean(PROMPT_OF), mean("vllm:request_prefill_kv_computed_tokens")),
        "Cache hit rates": CACHES,
        "Block lifetime": spread("vllm:kv_block_lifetime_seconds"),
        "Idle time before eviction": spread("vllm:kv_block_idle_before_evict_seconds"),
        "Block reuse gap": spread("vllm:kv_block_reuse_gap_seconds"),
        "External prefix cache hit rate": (hits("external_prefix"),),
        "Requests waiting on KV loads": ("sum by (stage) (vllm:num_requests_kv_fetch_by_stage{@})",),
        "Prompt tokens loaded via KV transfer": SOURCES[2:],
        "Transfer duration": spread("vllm:nixl_xfer_time_seconds"),
        "Transfer throughput": (
            *rates("vllm:nixl_bytes_transferred_sum"),
            share("vllm:nixl_bytes_transferred_sum{@}", "vllm:nixl_xfer_time_seconds_sum{@}"),
        ),
        "Transfers / s": rates("vllm:nixl_xfer_time_seconds_count"),
        "Bytes per transfer": spread("vllm:nixl_bytes_transferred"),
        "Transfer post time": spread("vllm:nixl_post_time_seconds"),
        "Descriptors per transfer": spread("vllm:nixl_num_descriptors"),
        "Transfer failures / s": rates(
            "vllm:nixl_num_failed_transfers_total",
            "vllm:nixl_num_failed_notifications_total",
            "vllm:nixl_num_kv_expired_reqs_total",
            "vllm:nixl_num_notifications_after_expiry_total",
        ),
        "Offload throughput": rates("vllm:kv_offload_load_bytes_total", "vllm:kv_offload_store_bytes_total"),
        "Offload transfer bandwidth": tuple(
            share(f"vllm:kv_offload_{way}_bytes_total{{@}}", f"vllm:kv_offload_{way}_time_total{{@}}")
            for way in ("load", "store")
        ),
        "Mean offload transfer size": (mean("vllm:kv_offload_load_size"), mean("vllm:kv_offload_store_size")),
        "Offload lookup latency p99": (
            *quantiles("vllm:kv_offload_lookup_sync_delay_seconds", 0.99),
            *quantiles("vllm:kv_offload_lookup_async_delay_seconds", 0.99),
        ),
        "CPU offload buffer usage": tuple(
            f"max(vllm:kv_offload_cpu_cache_{what}usage_perc{{@}})" for what in ("", "write_", "read_")
        ),
        "Failed and skipped stores / s": rates(
            "vllm:kv_offload_allocation_failure_total", "vllm:kv_offload_stores_skipped_total"
        ),
        "Store admission outcomes": ("sum by (outcome) (rate(vllm:simple_kv_offload_save_outcomes_total{@}[$R]))",),
        "Blocks restored from offload / s": rates("vllm:simple_kv_offload_load_blocks_total"),
        "Offload pool blocks": (
            "sum(vllm:simple_kv_offload_used_blocks{@})",
            "sum(vllm:simple_kv_offload_pending_store_blocks{@})",
        ),
    },
)

_OF_INSTANCE = " by (model_name, instance) "
INSTANCES = Board(
    "vLLM / Instances",
    GITHUB + "vllm_instances.json at 0b9faa4138937a56ee61d7e2acb55b06fa12b44c",
    _ENGINE,
    _ENGINES,
    {
        "Instances (last 5 minutes)": (
            f"count{_OF_INSTANCE}({RUNNING}{{@}})",
            f"sum{_OF_INSTANCE}({RUNNING}{{@}})",
            f"sum{_OF_INSTANCE}({WAITING}{{@}})",
            f"max{_OF_INSTANCE}({KV}{{@}})",
            f"sum{_OF_INSTANCE}(rate({SUCCESS}{{@}}[5m]))",
            f"sum{_OF_INSTANCE}(rate({GENERATION}{{@}}[5m]))",
            *(quantiles(name, 0.95, by="le, model_name, instance", over="5m")[0] for name in (TTFT, ITL)),
            f"sum{_OF_INSTANCE}(rate({PREEMPTIONS}{{@}}[5m]))",
            f"max{_OF_INSTANCE}((time() - process_start_time_seconds{{{_PROCESS}}}) * on (job, instance)"
            f" group_left (model_name) group by (job, instance, model_name) ({RUNNING}{{@}}))",
        ),
        "Running requests": (f"sum{ENGINE}({RUNNING}{{@}})",),
        "Waiting requests": (f"sum{ENGINE}({WAITING}{{@}})",),
        "KV cache usage": (f"max{ENGINE}({KV}{{@}})",),
        "Requests / s": (f"sum by (instance) (rate({SUCCESS}{{@}}[$R]))",),
        "Input tokens / s": (f"sum{ENGINE}(rate({PROMPT}{{@}}[$R]))",),
        "Output tokens / s": (f"sum{ENGINE}(rate({GENERATION}{{@}}[$R]))",),
        "TTFT, inter-token, E2E latency p95": tuple(
            quantiles(name, 0.95, by="le, instance")[0] for name in (TTFT, ITL, E2E)
        ),
        "Mean queue time": (mean(QUEUE, by=" by (instance) "),),
        "Engine steps / s": (f"sum{ENGINE}(rate({STEP}_count{{@}}[$R]))",),
        "Mean tokens per engine step": (mean(STEP, by=ENGINE),),
        "Preemptions / s": (f"sum{ENGINE}(rate({PREEMPTIONS}{{@}}[$R]))",),
        "Waiting requests by reason": (f"sum by (instance, engine, reason) ({REASONS}{{@}})",),
        "Prefix cache hit rate": (hits("prefix", by=ENGINE),),
        "CPU usage": (f"sum by (instance) (rate(process_cpu_seconds_total{{{_PROCESS}}}[$R]))",),
        "Resident memory": (f"sum by (instance) (process_resident_memory_bytes{{{_PROCESS}}})",),
        "Open file descriptors": (
            f"sum by (instance) (process_open_fds{{{_PROCESS}}}) / sum by (instance) (process_max_fds{{{_PROCESS}}})",
        ),
        "Cache configuration": (f'vllm:cache_config_info{{{_PROCESS}, engine=~"$engine"}}',),
        "LoRA adapters": (f"topk by (job, instance) (1, vllm:lora_requests_info{{{_PROCESS}}})",),
        "Engine sleep state": (
            f'(1 - max{ENGINE}({AWAKE}{{@, sleep_state="awake"}}))'
            f' * (1 + max{ENGINE}({AWAKE}{{@, sleep_state="discard_all"}}))',
        ),
        "Sleep mode and weight update operations": tuple(
            " or ".join(form.format(name=f"{name}", at=f"{{{_PROCESS}}}[$__range]") for name in OPERATIONS)
            for form in (
                "sum by (operation) (last_over_time({name}_count{at}))",
                "sum by (operation) (last_over_time({name}_sum{at}))"
                " / (sum by (operation) (last_over_time({name}_count{at})) > 0)",
                "histogram_quantile(0.99, sum by (le, operation) (last_over_time({name}_bucket{at})))",
            )
        ),
        "Estimated compute and memory traffic per GPU": (
            f"sum{ENGINE}(rate(vllm:estimated_flops_per_gpu_total{{@}}[$R]))",
            f"sum{ENGINE}(rate(vllm:estimated_read_bytes_per_gpu_total{{@}}[$R]))"
            f" + sum{ENGINE}(rate(vllm:estimated_write_bytes_per_gpu_total{{@}}[$R]))",
        ),
    },
)

_SERVED = f" and on () count({RUNNING}{{@}})"
_SPEED = f"sum(rate({GENERATION}{{@}}[5m])) / (sum(avg_over_time({RUNNING}{{@}}[5m])) > 0)"
_GOOD = f'1 - (sum(rate({SUCCESS}{{@, finished_reason="error"}}[5m])) / (sum(rate({SUCCESS}{{@}}[5m])) > 0))'
_MEDIAN = quantiles(TTFT, 0.5, over="5m")[0]
STATUS = Board(
    "vLLM / Service Status",
    GITHUB + "vllm_service_status.json at 712d75470b4134496be4a3f8a226450fb3ce81db",
    _INSTANCE,
    _INSTANCES,
    {
        "Status": (f'(2 - (max({AWAKE}{{@, sleep_state="awake"}}) == bool 0)) or vector(0)',),
        "Response time": (f"({_MEDIAN}){_SERVED}", _MEDIAN),
        "Output speed": (f"({_SPEED}){_SERVED}", _SPEED),
        "Success rate": (f"({_GOOD}){_SERVED}", _GOOD),
        "Requests / min": (
            f"(60 * sum(rate({SUCCESS}{{@}}[5m]))){_SERVED}",
            f"60 * sum(rate({SUCCESS}{{@}}[5m]))",
        ),
    },
)

BOARDS = (STOCK, PERFORMANCE, QUERY, OVERVIEW, KV_CACHE, INSTANCES, STATUS)

NEVER = {
    r"vllm:mm_cache_": "no model here takes pictures",
    r"vllm:kv_block_": "vLLM samples blocks' lives with --kv-cache-metrics only",
    r"vllm:(nixl|kv_offload|simple_kv_offload)_": "vLLM's connectors; stores have moonpool_store_*",
    r"vllm:lora_": "there are no adapters",
    r"vllm:(sleep_mode|rl_weight_update)_": "no worker is put to sleep, none changes its weights",
    r"vllm:estimated_": "vLLM has it with --enable-mfu-metrics only",
    r"^[^v]*http_request": "gateways speak HTTP with clients, and $instance has workers: ask without it",
}
"""Metrics of panels that stay empty, and why."""
