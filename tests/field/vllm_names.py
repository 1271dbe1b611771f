"""vLLM's metrics that are exported here, as vLLM 0.32.0 has them: kinds, labels besides model_name and engine, bounds.

Source: vllm 0.32.0 (PyPI), vllm/v1/metrics/loggers.py and buckets.py; 0.33.0 has the same. HTTP figures are of
prometheus-fastapi-instrumentator 8.1.0, which vLLM uses. Bounds of tokens end at the longest sequence.
"""

from dataclasses import dataclass

REQUEST_S = (*(0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680),)
TTFT_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(20, 40, 80, 160, 640, 2560),
)
ITL_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
STEP = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
TOKENS_TO_4000 = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


@dataclass(frozen=True, slots=True)
class Named:
    """by: a label of its own, and the values that vLLM gives it."""

    kind: str
    by: str = ""
    values: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


SCHEDULER = {
    "vllm:num_requests_running": Named("gauge"),
    "vllm:num_requests_waiting": Named("gauge"),
    "vllm:num_requests_waiting_by_reason": Named("gauge", "reason", ("capacity", "deferred")),
    "vllm:num_requests_kv_fetch_by_stage": Named(
        "gauge", "stage", ("waiting_to_start", "in_progress", "completed_waiting")
    ),
    "vllm:engine_sleep_state": Named("gauge", "sleep_state", ("awake", "weights_offloaded", "discard_all")),
    "vllm:kv_cache_usage_perc": Named("gauge"),
    "vllm:num_preemptions_total": Named("counter"),
    "vllm:iteration_tokens_total": Named("histogram", bounds=STEP),
}

REQUESTS = {
    "vllm:prefix_cache_queries_total": Named("counter"),
    "vllm:prefix_cache_hits_total": Named("counter"),
    "vllm:external_prefix_cache_queries_total": Named("counter"),
    "vllm:external_prefix_cache_hits_total": Named("counter"),
    "vllm:prompt_tokens_total": Named("counter"),
    "vllm:prompt_tokens_by_source_total": Named(
        "counter", "source", ("local_compute", "local_cache_hit", "external_kv_transfer")
    ),
    "vllm:prompt_tokens_cached_total": Named("counter"),
    "vllm:prompt_tokens_cached_by_source_total": Named(
        "counter", "source", ("device", "host", "p2p", "disk", "external_unspecified")
    ),
    "vllm:generation_tokens_total": Named("counter"),
    "vllm:request_success_total": Named(
        "counter", "finished_reason", ("stop", "length", "abort", "error", "repetition")
    ),
    "vllm:time_to_first_token_seconds": Named("histogram", bounds=TTFT_S),
    "vllm:inter_token_latency_seconds": Named("histogram", bounds=ITL_S),
    "vllm:request_time_per_output_token_seconds": Named("histogram", bounds=ITL_S),
    "vllm:e2e_request_latency_seconds": Named("histogram", bounds=REQUEST_S),
    "vllm:request_queue_time_seconds": Named("histogram", bounds=REQUEST_S),
    "vllm:request_inference_time_seconds": Named("histogram", bounds=REQUEST_S),
    "vllm:request_prefill_time_seconds": Named("histogram", bounds=REQUEST_S),
    "vllm:request_decode_time_seconds": Named("histogram", bounds=REQUEST_S),
    "vllm:request_prompt_tokens": Named("histogram", bounds=TOKENS_TO_4000),
    "vllm:request_generation_tokens": Named("histogram", bounds=TOKENS_TO_4000),
    "vllm:request_max_num_generation_tokens": Named("histogram", bounds=TOKENS_TO_4000),
    "vllm:request_params_max_tokens": Named("histogram", bounds=TOKENS_TO_4000),
    "vllm:request_params_n": Named("histogram", bounds=(1, 2, 5, 10, 20)),
    "vllm:request_prefill_kv_computed_tokens": Named("histogram", bounds=TOKENS_TO_4000),
}

CACHE_CONFIG = {"engine", "block_size", "num_gpu_blocks", "cache_dtype", "enable_prefix_caching"}
"""Of vllm:cache_config_info, a gauge that is 1, some of the labels: those that llm-d's picker and the boards read."""

HTTP = {
    "http_requests_total": ("counter", {"handler", "method", "status"}, ()),
    "http_request_duration_seconds": ("histogram", {"handler", "method"}, (0.1, 0.5, 1)),
}
