"""What the conductor decides, how long that takes, and how right its predictions are."""

from deploy.grafana.panel import RATE, Dashboard, Panel, Query, Row, one, quantiles

DECISIONS = Row(
    "Decisions",
    (
        Panel(
            "Placements per second",
            "By conductor: gateways ask the first that answers, so one does all of it until it is gone.",
            "reqps",
            one(f"sum by (instance) (rate(moonpool_placements_total[{RATE}]))", "{{instance}}"),
        ),
        Panel(
            "Time of a placement",
            "At the gateway, waiting for workers included. A median above 10 ms: the conductor has no core to "
            "itself. A p99 of seconds: requests wait for a worker to appear (--patience-s).",
            "s",
            quantiles("moonpool_gateway_placing_seconds"),
            red=0.1,
        ),
        Panel(
            "Workers and stores that are known",
            "The most that any conductor knows of. Two that disagree for longer than seconds: one does not reach "
            "somebody.",
            "short",
            (
                Query("max by (role) (moonpool_workers)", "{{role}}"),
                Query("max(moonpool_stores)", "stores"),
            ),
        ),
    ),
)

PREDICTIONS = Row(
    "Predictions",
    (
        Panel(
            "Measured over predicted",
            "Geometric means of recent requests; 1 is right. Above: workers are slower than they report, mostly "
            "because something else computes beside them. It corrects what clients are told, and what admission "
            "reckons with.",
            "none",
            one("max by (slo) (moonpool_prediction_ratio)", "{{slo}}"),
            yellow=1.5,
            red=2,
            rare=True,
        ),
        Panel(
            "Error of a prediction",
            "The mean of |measured - predicted| / predicted. Short requests are harder: a millisecond is much of them.",
            "none",
            one("max by (slo) (moonpool_prediction_error)", "{{slo}}"),
            yellow=0.5,
            red=1,
            rare=True,
        ),
        Panel(
            "First tokens, predicted and measured",
            "Of the same requests.",
            "s",
            (
                *quantiles("moonpool_gateway_predicted_ttft_seconds", of=(0.5, 0.99), what="predicted"),
                *quantiles("vllm:time_to_first_token_seconds", of=(0.5, 0.99), what="measured"),
            ),
        ),
    ),
)

LOAD = Row(
    "Load and admission",
    (
        Panel(
            "Queue of workers",
            "From arrival at a worker to its first chunk, by role. Prefill: more workers, or admission. Decode: seats "
            "(--max-num-seqs) or device memory.",
            "s",
            quantiles("moonpool_worker_queue_seconds", by="role", of=(0.5, 0.99)),
        ),
        Panel(
            "Left of the promise at the first token",
            "The tenth that has least. Below 0: late. Far above: there is room for more.",
            "s",
            quantiles("moonpool_first_token_slack_seconds", by="role", of=(0.1, 0.5)),
            rare=True,
        ),
        Panel(
            "Refused for being late, and prefills in vain",
            "Refused before any work, unless a prefill was wasted: then the conductor was wrong about how long it "
            "would take.",
            "reqps",
            (
                Query(f"sum(rate(moonpool_refused_late_total[{RATE}]))", "refused"),
                Query(f"sum(rate(moonpool_prefills_wasted_total[{RATE}]))", "prefills in vain"),
            ),
        ),
        Panel(
            "Workers that changed their role",
            "Ordered by conductors with --elastic. More than a few an hour: the load swings, or both roles are short.",
            "short",
            one("sum by (instance) (increase(moonpool_role_changes_total[10m]))", "{{instance}}, in 10 min"),
        ),
        Panel(
            "Beliefs that were wrong",
            "Digests of a store's names that were not what was believed of it. Placements cost more than predicted, "
            "no answer is wrong. A few after a restart; steadily, it is a bug.",
            "short",
            one("sum by (instance) (increase(moonpool_drifts_total[10m]))", "{{instance}}, in 10 min"),
            red=3,
        ),
        Panel(
            "Hand-overs",
            "That conductors have heard the end of.",
            "reqps",
            one(f"sum by (instance) (rate(moonpool_handoffs_total[{RATE}]))", "{{instance}}"),
        ),
    ),
)

DASHBOARD = Dashboard(
    "moonpool-scheduler",
    "Moonpool: scheduler",
    "What conductors decide, and how right they are.",
    (DECISIONS, PREDICTIONS, LOAD),
)
