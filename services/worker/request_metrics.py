"""What became of requests, under vLLM's names, types, labels and buckets (0.32): counted by a worker, told by gateways.

Only the gateway sees a whole request, whichever workers it went through; but boards for vLLM look for all of these
names where ``vllm:num_requests_running`` is, at the engine. So each sequence is counted once: its prompt by the worker
that gave its first token, its end by the one that gave its last. All figures of one prompt change together, so that
they add up in every scrape:

    prompt_tokens = by_source{local_compute} + by_source{local_cache_hit} + by_source{external_kv_transfer}
    prompt_tokens_cached = sum of cached_by_source = prefix_cache_hits + external_prefix_cache_hits
"""

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram

from services.runtime.bounds import FIRST_TOKEN_S
from services.wire.codec import lifted_from_wire
from services.wire.errors import WireError
from services.wire.pb import worker_pb2

BETWEEN_TOKENS_S = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008),  # finer than vLLM's, which start at 10 ms
    *(0.01, 0.0125, 0.015, 0.02, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40),
    80,
)
FINE_S = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Below vLLM's first bound of a request's phases, which are often shorter."""

REQUEST_S = (*FINE_S, *(0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680))
N = (1, 2, 5, 10, 20)
CACHES = ("device", "host", "p2p", "disk", "external_unspecified")
SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
REASONS = ("stop", "length", "abort", "error", "repetition")
COMPLETE = ("stop", "length")


def token_bounds(longest: int) -> tuple[float, ...]:
    """1, 2, 5, 10 .. up to the longest sequence that can be."""
    return tuple(float(step * 10**power) for power in range(9) for step in (1, 2, 5) if step * 10**power <= longest)


class RequestMetrics:
    """One worker's share. Every series is there from the beginning, so that rates see the first request."""

    def __init__(self, registry: CollectorRegistry, labels: Mapping[str, str], *, max_model_len: int) -> None:
        self._registry, self._labels = registry, dict(labels)
        tokens = token_bounds(max_model_len)
        self._prompt = self._counter("vllm:prompt_tokens", "Prompt tokens of sequences that got their first token here")
        self._cached = self._counter("vllm:prompt_tokens_cached", "Of these, tokens whose KV was reused; no handoffs")
        self._queries = self._counter("vllm:prefix_cache_queries", "Prompt tokens looked up on the device")
        self._hits = self._counter("vllm:prefix_cache_hits", "Prompt tokens whose KV was on the device")
        self._external_queries = self._counter(
            "vllm:external_prefix_cache_queries", "Prompt tokens looked up in the store: what the device lacked"
        )
        self._external_hits = self._counter(
            "vllm:external_prefix_cache_hits", "Prompt tokens whose KV came from the store, its SSD or another store"
        )
        self._by_source = self._split("vllm:prompt_tokens_by_source", "Prompt tokens by source", "source", SOURCES)
        self._by_cache = self._split(
            "vllm:prompt_tokens_cached_by_source",
            "Reused prompt tokens by where they were: device, host (a store's memory), disk (SSD), p2p (another store)",
            "source",
            CACHES,
        )
        self._generation = self._counter("vllm:generation_tokens", "Tokens given to clients")
        self._success = self._split(
            "vllm:request_success",
            "Sequences that ended, by reason: stop, length, abort (the client left) or error",
            "finished_reason",
            REASONS,
        )
        self._ttft = self._histogram(
            "vllm:time_to_first_token_seconds",
            "From a request's arrival at the gateway to its first token",
            FIRST_TOKEN_S,
        )
        self._itl = self._histogram(
            "vllm:inter_token_latency_seconds", "Between a stream's successive steps", BETWEEN_TOKENS_S
        )
        self._tpot = self._histogram(
            "vllm:request_time_per_output_token_seconds",
            "A request's mean time for each token after its first; 0 where there is one only",
            BETWEEN_TOKENS_S,
        )
        self._e2e = self._histogram("vllm:e2e_request_latency_seconds", "From arrival to the end", REQUEST_S)
        self._queue = self._histogram(
            "vllm:request_queue_time_seconds", "In the queue of the worker that prefilled", REQUEST_S
        )
        self._prefill = self._histogram(
            "vllm:request_prefill_time_seconds", "From the first chunk's start to the first token", REQUEST_S
        )
        self._decode = self._histogram("vllm:request_decode_time_seconds", "From first token to last", REQUEST_S)
        self._inference = self._histogram(
            "vllm:request_inference_time_seconds", "From the first chunk's start to the last token", REQUEST_S
        )
        self._prompt_of = self._histogram("vllm:request_prompt_tokens", "A request's prompt tokens", tokens)
        self._computed_of = self._histogram(
            "vllm:request_prefill_kv_computed_tokens", "A request's prompt tokens that were not reused", tokens
        )
        self._generated_of = self._histogram("vllm:request_generation_tokens", "A request's tokens given out", tokens)
        self._max_tokens = self._histogram("vllm:request_params_max_tokens", "A request's limit of tokens", tokens)
        self._n = self._histogram("vllm:request_params_n", "How many choices a prompt was to have", N)
        self._most = self._histogram(
            "vllm:request_max_num_generation_tokens", "Tokens of the longest of a prompt's choices", tokens
        )

    def account(self, told: worker_pb2.AccountRequest) -> None:
        """What one gateway saw since it told last. Raises WireError, and counts nothing, where it can't be so."""
        _check(told)
        for begun in told.begun:
            self._begun(begun)
        for seconds in told.inter_token_s:
            self._itl.observe(seconds)
        self._generation.inc(told.generation_tokens)
        for ended in told.ended:
            self._success[ended.reason].inc()
            if ended.reason in COMPLETE:
                self._complete(ended)
        for asked in told.asked:
            self._n.observe(asked.n)
            self._most.observe(asked.generation_tokens)

    def _begun(self, begun: worker_pb2.Begun) -> None:
        lifted = lifted_from_wire(begun.lifted)
        device = begun.cached_tokens - lifted.total
        self._ttft.observe(begun.ttft_s)
        self._prompt.inc(begun.prompt_tokens)
        self._cached.inc(begun.cached_tokens)
        self._queries.inc(begun.prompt_tokens)
        self._hits.inc(device)
        self._external_queries.inc(begun.prompt_tokens - device)
        self._external_hits.inc(lifted.total)
        self._by_source["local_compute"].inc(begun.prompt_tokens - begun.cached_tokens)
        self._by_source["local_cache_hit"].inc(device)
        self._by_source["external_kv_transfer"].inc(lifted.total)
        for cache, tokens in (("device", device), ("host", lifted.host), ("disk", lifted.disk), ("p2p", lifted.p2p)):
            self._by_cache[cache].inc(tokens)

    def _complete(self, ended: worker_pb2.Ended) -> None:
        self._e2e.observe(ended.e2e_s)
        self._queue.observe(ended.queue_s)
        self._prefill.observe(ended.prefill_s)
        self._decode.observe(ended.decode_s)
        self._inference.observe(ended.prefill_s + ended.decode_s)
        self._tpot.observe(ended.decode_s / max(1, ended.generation_tokens - 1))
        self._prompt_of.observe(ended.prompt_tokens)
        self._computed_of.observe(ended.prompt_tokens - ended.cached_tokens)
        self._generated_of.observe(ended.generation_tokens)
        self._max_tokens.observe(ended.max_tokens)

    def _counter(self, name: str, words: str) -> Counter:
        return Counter(name, words, list(self._labels), registry=self._registry).labels(**self._labels)

    def _split(self, name: str, words: str, by: str, values: Sequence[str]) -> dict[str, Counter]:
        family = Counter(name, words, [*self._labels, by], registry=self._registry)
        return {value: family.labels(**self._labels, **{by: value}) for value in values}

    def _histogram(self, name: str, words: str, buckets: Sequence[float]) -> Histogram:
        family = Histogram(name, words, list(self._labels), buckets=buckets, registry=self._registry)
        return family.labels(**self._labels)


def _check(told: worker_pb2.AccountRequest) -> None:
    for begun in told.begun:
        if not lifted_from_wire(begun.lifted).total <= begun.cached_tokens <= begun.prompt_tokens:
            raise WireError(f"more tokens were reused than a prompt has, or came from a store than were: {begun}")
    for ended in told.ended:
        if ended.reason not in REASONS:
            raise WireError(f"no sequence ends by {ended.reason!r}")
        if ended.cached_tokens > ended.prompt_tokens:
            raise WireError(f"more tokens were reused than the prompt has: {ended}")
