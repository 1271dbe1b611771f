"""Is it well, how fast is it, does it keep its promises: the page to have on a wall."""

from deploy.grafana.panel import RATE, Dashboard, Panel, Query, Row, one, quantiles

_PROMISED = f"sum(rate(moonpool_slo_met_total[{RATE}])) + sum(rate(moonpool_slo_missed_total[{RATE}]))"
_MEAN = "sum(rate({}_{what}[" + RATE + "]))"

WELL = Row(
    "Is it well?",
    (
        Panel(
            "Live workers",
            "By role, as the conductor that knows of more says. None of a role: the other one does its work, slower; "
            "none at all: requests get 503. Look whether the containers run, and in their logs for why they were "
            "refused.",
            "short",
            one("max by (role) (moonpool_workers) > 0", "{{role}}"),
            width=5,
            red=1,
            low_is_bad=True,
            stat=True,
        ),
        Panel(
            "One role does it all",
            "Yes while prefill or decode has no worker. Answers are right and slower: start workers of that role.",
            "short",
            one("max(moonpool_degraded)"),
            width=3,
            red=1,
            stat=True,
            words=((0, "no"), (1, "yes")),
        ),
        Panel(
            "Processes that do not answer",
            "Of those that Prometheus is to scrape. Others take over; read the log of the one that is down.",
            "short",
            one('count(up{job=~"gateway|conductor|worker|store"} == 0) or vector(0)'),
            width=4,
            red=1,
            stat=True,
        ),
        Panel(
            "Requests per second",
            "For an answer, of any status, all gateways together.",
            "reqps",
            one(f"sum(rate(moonpool_gateway_requests_total[{RATE}]))"),
            width=4,
            stat=True,
        ),
        Panel(
            "Promises kept",
            "Of the sequences that were promised something (an SLO of the deployment or of the request). Red: see "
            "Promises below for which one is missed, and the Scheduler page for whether predictions are off.",
            "percentunit",
            one(f"sum(rate(moonpool_slo_met_total[{RATE}])) / ({_PROMISED} > 0)"),
            width=4,
            yellow=0.99,
            red=0.95,
            low_is_bad=True,
            stat=True,
            rare=True,
        ),
        Panel(
            "Refused",
            "Requests answered with 429 or 503. Red: there is more to do than can be done in time; Errors and "
            "refusals by code says what they were told.",
            "percentunit",
            one(
                f'(sum(rate(moonpool_gateway_requests_total{{status=~"429|503"}}[{RATE}])) or vector(0))'
                f" / sum(rate(moonpool_gateway_requests_total[{RATE}]))"
            ),
            width=4,
            yellow=0.01,
            red=0.1,
            stat=True,
        ),
    ),
)

REQUESTS = Row(
    "Requests",
    (
        Panel(
            "By status",
            "499: the client left first. 500 is always a bug: the gateway's log has the request's id.",
            "reqps",
            one(f"sum by (status) (rate(moonpool_gateway_requests_total[{RATE}]))", "{{status}}"),
            stacked=True,
        ),
        Panel(
            "Errors and refusals by code",
            "slo_unattainable: it would have been later than promised. rate_limit_exceeded: no room at the gateway. "
            "service_unavailable: no conductor or no worker. Refusals cost a client a retry and nobody any work.",
            "reqps",
            one(f"sum by (code) (rate(moonpool_gateway_errors_total[{RATE}]))", "{{code}}"),
            stacked=True,
            rare=True,
        ),
        Panel(
            "Before and after the first token",
            "Requests that the gateways are telling. Waiting that grows while running does not: prefill is short of "
            "workers.",
            "short",
            (
                Query("sum(moonpool_gateway_requests_waiting)", "waiting for the first token"),
                Query("sum(moonpool_gateway_requests_running)", "running"),
            ),
        ),
        Panel(
            "Running on workers, by role",
            "Sequences in batches. A decode worker that is full (--max-num-seqs) refuses, and the gateway asks again.",
            "short",
            one("sum by (role) (vllm:num_requests_running)", "{{role}}"),
            stacked=True,
        ),
        Panel(
            "Waiting on workers, by role",
            "Queued or loading. On prefill: first tokens get late. On decode: there is no seat or no room for the KV.",
            "short",
            one("sum by (role) (vllm:num_requests_waiting)", "{{role}}"),
            stacked=True,
            yellow=16,
            red=64,
        ),
        Panel(
            "Continued, placed again, left",
            "Streams that went on elsewhere when their worker failed, placements after the first, clients that left.",
            "reqps",
            (
                Query(f"sum(rate(moonpool_gateway_resumed_total[{RATE}]))", "continued elsewhere"),
                Query(f"sum(rate(moonpool_gateway_retries_total[{RATE}]))", "placed again"),
                Query(f"sum(rate(moonpool_gateway_cancellations_total[{RATE}]))", "client left"),
            ),
        ),
    ),
)

LATENCY = Row(
    "Latency, as clients see it",
    (
        Panel(
            "Time to first token",
            "From a request's arrival. High with TPOT as ever: prefill workers are the bottleneck, or what is "
            "fetched is; see Where the first token's time goes.",
            "s",
            quantiles("vllm:time_to_first_token_seconds"),
        ),
        Panel(
            "Time to first token, predicted beside measured",
            "Of the same requests. Lines that part: the Scheduler page has by how much, and admission errs by that.",
            "s",
            (
                *quantiles("vllm:time_to_first_token_seconds", of=(0.5, 0.9), what="measured"),
                *quantiles("moonpool_gateway_predicted_ttft_seconds", of=(0.5, 0.9), what="predicted"),
            ),
        ),
        Panel(
            "Where the first token's time goes",
            "Means: text is tokenizing, placing asks a conductor and waits for workers, the queue and the prefill "
            "are the worker's. A queue that grows wants more prefill workers; placing above 10 ms, a look at the "
            "conductors.",
            "s",
            tuple(
                Query(f"{_MEAN.format(name, what='sum')} / {_MEAN.format(name, what='count')}", words)
                for name, words in (
                    ("moonpool_gateway_text_seconds", "text"),
                    ("moonpool_gateway_placing_seconds", "placing"),
                    ("vllm:request_queue_time_seconds", "queue"),
                    ("vllm:request_prefill_time_seconds", "prefill"),
                )
            ),
            stacked=True,
        ),
        Panel(
            "Time per output token",
            "A request's mean. High with TTFT as ever: decode batches are too large, or something computes beside "
            "them.",
            "s",
            quantiles("vllm:request_time_per_output_token_seconds"),
        ),
        Panel(
            "Gaps between tokens",
            "Single gaps. A p99 far above the median: prefills run inline between the steps (--inline-max-tokens), "
            "or a worker has no core of its own.",
            "s",
            quantiles("vllm:inter_token_latency_seconds", of=(0.5, 0.99)),
        ),
        Panel(
            "Whole requests",
            "From arrival to the end.",
            "s",
            quantiles("vllm:e2e_request_latency_seconds"),
        ),
    ),
)

PROMISES = Row(
    "Promises and work",
    (
        Panel(
            "Promises met and missed",
            "By promise: ttft from arrival to the first token, tpot the mean of a sequence. Nothing is promised "
            "unless the deployment (--slo-ttft-s, --slo-tpot-s) or the request does.",
            "ops",
            (
                Query(f"sum by (slo) (rate(moonpool_slo_met_total[{RATE}]))", "{{slo}} met"),
                Query(f"sum by (slo) (rate(moonpool_slo_missed_total[{RATE}]))", "{{slo}} missed"),
            ),
            rare=True,
        ),
        Panel(
            "Tokens",
            "Prompts read, prompts found in a cache instead, and tokens given out.",
            "short",
            (
                Query(f"sum(rate(vllm:prompt_tokens_total[{RATE}]))", "prompt tokens/s"),
                Query(f"sum(rate(vllm:prompt_tokens_cached_total[{RATE}]))", "of them reused/s"),
                Query(f"sum(rate(vllm:generation_tokens_total[{RATE}]))", "generated/s"),
            ),
        ),
        Panel(
            "Prompt tokens reused",
            "The share of prompts that nobody had to compute. It falls when clients change what their prompts begin "
            "with, or when the arena is too small for what they come back to (KV page: evictions).",
            "percentunit",
            one(f"sum(rate(vllm:prompt_tokens_cached_total[{RATE}])) / sum(rate(vllm:prompt_tokens_total[{RATE}]))"),
        ),
    ),
)

DASHBOARD = Dashboard(
    "moonpool-overview",
    "Moonpool: overview",
    "Is it well, how fast is it, does it keep its promises.",
    (WELL, REQUESTS, LATENCY, PROMISES),
)
