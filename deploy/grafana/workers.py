"""Worker by worker: batches, steps, memory, and what goes to and comes from the store."""

from deploy.grafana.panel import RATE, Dashboard, Panel, Query, Row, one, quantiles

BATCHES = Row(
    "Batches",
    (
        Panel(
            "Running",
            "Sequences in a worker's batch. One that has none while others of its role are full: nobody can reach it.",
            "short",
            one("sum by (role, instance) (vllm:num_requests_running)", "{{role}} {{instance}}"),
        ),
        Panel(
            "Waiting",
            "Queued or loading.",
            "short",
            one("sum by (role, instance) (vllm:num_requests_waiting)", "{{role}} {{instance}}"),
            yellow=16,
            red=64,
        ),
        Panel(
            "Device memory in use",
            "Of its KV blocks. Above 0.9 sequences are set back, and compute again what they had.",
            "percentunit",
            one("max by (role, instance) (vllm:kv_cache_usage_perc)", "{{role}} {{instance}}"),
            yellow=0.8,
            red=0.9,
        ),
    ),
)

STEPS = Row(
    "Steps",
    (
        Panel(
            "Time of a step",
            "By role. Prefill chunks are cut to about 0.25 s. A decode step that is much longer than its median: "
            "prefills run inline, or the worker shares its cores.",
            "s",
            quantiles("moonpool_step_seconds", by="role", of=(0.5, 0.99)),
        ),
        Panel(
            "Tokens of a step",
            "Computed: prompts' tokens and one for each stream.",
            "short",
            one(
                f"sum by (role) (rate(vllm:iteration_tokens_total_sum[{RATE}]))"
                f" / sum by (role) (rate(vllm:iteration_tokens_total_count[{RATE}]))",
                "{{role}}",
            ),
        ),
        Panel(
            "Tokens sampled",
            "By worker.",
            "short",
            one(
                f"sum by (role, instance) (rate(moonpool_worker_tokens_sampled_total[{RATE}]))",
                "{{role}} {{instance}}/s",
            ),
        ),
        Panel(
            "Prefill time",
            "First chunk to first token, by role.",
            "s",
            quantiles("moonpool_worker_prefill_seconds", by="role", of=(0.5, 0.99)),
        ),
        Panel(
            "Sequences set back",
            "Preempted for want of device memory: give more (--kv-cache-bytes), or fewer seats (--max-num-seqs).",
            "ops",
            one(f"sum by (role, instance) (rate(vllm:num_preemptions_total[{RATE}]))", "{{role}} {{instance}}"),
            red=1,
        ),
        Panel(
            "Requests refused by workers",
            "By reason. The gateway asks the conductor again; a client notices only if everybody refuses.",
            "reqps",
            one(f"sum by (role, reason) (rate(moonpool_requests_refused_total[{RATE}]))", "{{role}} {{reason}}"),
            rare=True,
        ),
    ),
)

STORE = Row(
    "With the store",
    (
        Panel(
            "Without a store",
            "Such a worker serves alone: it hands nothing over, and nothing of it outlives it. Is the store of its "
            "host alive, with the same --host-id and the same volume?",
            "short",
            one("count(moonpool_store_connected == 0) or vector(0)"),
            red=1,
            stat=True,
        ),
        Panel(
            "Sessions of stores",
            "set_aside: the connection broke, and the worker may live: its slots are kept until it ends or comes back.",
            "short",
            one("sum by (state) (moonpool_store_sessions)", "{{state}}"),
            stat=True,
        ),
        Panel(
            "Requests that could not lift",
            "What a store had promised them was gone, so they computed it. Steadily: the arena is too small.",
            "short",
            one("sum(increase(moonpool_lifts_lost_total[10m]))", "in 10 min"),
            yellow=1,
            stat=True,
        ),
        Panel(
            "Blocks to and from the store",
            "published: device to arena; lifted: arena to device.",
            "ops",
            (
                Query(f"sum by (role) (rate(moonpool_blocks_published_total[{RATE}]))", "{{role}} published"),
                Query(f"sum by (role) (rate(moonpool_blocks_lifted_total[{RATE}]))", "{{role}} lifted"),
                Query(f"sum by (role) (rate(moonpool_blocks_not_published_total[{RATE}]))", "{{role}} not kept"),
            ),
        ),
        Panel(
            "What stores answered to who would write",
            "write: go on; held, writing: somebody has it or is at it; refused: no room.",
            "ops",
            one(f"sum by (answer) (rate(moonpool_store_blocks_asked_total[{RATE}]))", "{{answer}}"),
            stacked=True,
        ),
        Panel(
            "First tokens given without a push",
            "The other store had not answered in time. Who decodes fetches or computes: slower, and right.",
            "ops",
            one(f"sum(rate(moonpool_pushes_unanswered_total[{RATE}]))", "unanswered"),
            red=0.1,
        ),
    ),
)

DASHBOARD = Dashboard(
    "moonpool-workers",
    "Moonpool: workers",
    "Worker by worker: batches, steps, memory, and the store beside them.",
    (BATCHES, STEPS, STORE),
)
