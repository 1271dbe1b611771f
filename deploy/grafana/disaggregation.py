"""Prefill here, decode there, and the KV in between: what is handed over, where blocks lie, what moves."""

from deploy.grafana.panel import RATE, Dashboard, Panel, Query, Row, one, quantiles

HANDOFFS = Row(
    "Prefill and decode apart",
    (
        Panel(
            "Placements, by what was decided and why",
            "Handed over: another worker prefills. Inline, sooner: a hand-over would end later. Inline, no pair: no "
            "prefill worker can reach a decode worker; look at stores and transfers. Inline, degraded: one role has "
            "no worker. All inline although prefill idles: prompts are short, or --inline-max-tokens is high.",
            "reqps",
            one(f"sum by (decision) (rate(moonpool_gateway_placements_total[{RATE}]))", "{{decision}}"),
            stacked=True,
        ),
        Panel(
            "Share handed over",
            "Of all placements. 0 with prefill workers alive means that they do nothing.",
            "percentunit",
            one(
                f'sum(rate(moonpool_gateway_placements_total{{decision="handed over"}}[{RATE}]))'
                f" / sum(rate(moonpool_gateway_placements_total[{RATE}]))"
            ),
        ),
        Panel(
            "Hand-overs received, and blocks that were missing",
            "Missing blocks were computed anew by who decodes: right, and slower. They come from full arenas, from "
            "transfers that failed, and from prefill workers that died.",
            "ops",
            (
                Query(f"sum(rate(moonpool_handoffs_received_total[{RATE}]))", "hand-overs/s"),
                Query(f"sum(rate(moonpool_handoff_blocks_missing_total[{RATE}]))", "blocks missing/s"),
            ),
        ),
    ),
)

TRANSFERS = Row(
    "Between stores",
    (
        Panel(
            "Bytes per second",
            "Of blocks, by store and direction. Near what the network can do: hand-overs wait for each other.",
            "Bps",
            one(
                f"sum by (instance, direction) (rate(moonpool_store_transfer_bytes_total[{RATE}]))",
                "{{instance}} {{direction}}",
            ),
        ),
        Panel(
            "Seconds of a transfer",
            "Pushes last as long as the prefill that they go along with; fetches are what a first token waits for.",
            "s",
            quantiles("moonpool_store_transfer_seconds", by="way", of=(0.5, 0.99)),
        ),
        Panel(
            "Rate of a fetch",
            "Bytes that came in per second spent fetching: what a link gives to one transfer. The conductor reckons "
            "with --link-rate; far below it, predictions of fetches are too good.",
            "Bps",
            one(
                f'sum by (instance) (rate(moonpool_store_transfer_bytes_total{{direction="received"}}[{RATE}]))'
                f' / sum by (instance) (rate(moonpool_store_transfer_seconds_sum{{way="fetched"}}[{RATE}]) > 0)',
                "{{instance}}",
            ),
            rare=True,
        ),
        Panel(
            "Blocks moved",
            "By way. Fetched and served are copies of prefixes that another host has; pushed and taken are hand-overs. "
            "not there: asked of another store that had evicted them meanwhile, so they are computed.",
            "ops",
            (
                *one(f"sum by (way) (rate(moonpool_store_transfer_blocks_total[{RATE}]))", "{{way}}"),
                *one(f"sum(rate(moonpool_store_transfer_blocks_not_there_total[{RATE}]))", "not there"),
            ),
        ),
        Panel(
            "In flight",
            "At its bound (--transfer-bytes-in-flight) a store refuses more, and who decodes fetches later or "
            "computes anew.",
            "bytes",
            one("sum by (instance, direction) (moonpool_store_transfer_bytes_in_flight)", "{{instance}} {{direction}}"),
        ),
        Panel(
            "Transfers that lost blocks",
            "By reason. What is lost is computed anew. no_room: the other arena is full of what is leased. checksum: "
            "suspect memory or network. The others are the network, or a store that went away.",
            "ops",
            one(f"sum by (reason) (rate(moonpool_store_transfer_failures_total[{RATE}]))", "{{reason}}"),
            red=0.1,
        ),
    ),
)

CACHE = Row(
    "The cache",
    (
        Panel(
            "Where blocks were found",
            "Looked up by workers, beyond what they have on their own device. none: nobody has it, so it is computed.",
            "ops",
            one(f"sum by (tier) (rate(moonpool_store_blocks_looked_up_total[{RATE}]))", "{{tier}}"),
            stacked=True,
        ),
        Panel(
            "Hits, by tier",
            "Shares of what was looked up. Much from ssd: the arena is too small for what comes back (--dram). Much "
            "from peer: prompts of one kind go to several hosts.",
            "percentunit",
            one(
                f'sum by (tier) (rate(moonpool_store_blocks_looked_up_total{{tier!="none"}}[{RATE}]))'
                f" / ignoring (tier) group_left sum(rate(moonpool_store_blocks_looked_up_total[{RATE}]))",
                "{{tier}}",
            ),
            rare=True,
        ),
        Panel(
            "Reused on workers' own devices",
            "Of prompt tokens, by role: no store was asked for them.",
            "percentunit",
            one(
                f"sum by (role) (rate(vllm:prefix_cache_hits_total[{RATE}]))"
                f" / sum by (role) (rate(vllm:prefix_cache_queries_total[{RATE}]) > 0)",
                "{{role}}",
            ),
        ),
        Panel(
            "Arena, by state of its slots",
            "sealed is the cache, and may fill it. writing that does not go down: a worker hangs, or a session was "
            "set aside.",
            "short",
            one("sum by (instance, state) (moonpool_store_slots)", "{{instance}} {{state}}"),
            stacked=True,
        ),
        Panel(
            "Evictable",
            "Sealed slots that nobody leases, of all: what new blocks can have. Near 0: everything is in use; "
            "hand-overs are refused for want of room. Give a larger --dram, or fewer sequences at a time.",
            "percentunit",
            one(
                "sum by (instance) (moonpool_store_evictable_slots + on (instance) "
                'sum by (instance) (moonpool_store_slots{state="free"}))'
                " / sum by (instance) (moonpool_store_slots)",
                "{{instance}}",
            ),
            yellow=0.2,
            red=0.05,
            low_is_bad=True,
        ),
        Panel(
            "Leases, and who waits for a writer",
            "Leases end with the worker that holds them. Some that stay while nothing runs would be a leak.",
            "short",
            (
                Query("sum by (instance) (moonpool_store_leases)", "{{instance}} leases"),
                Query("sum by (instance) (moonpool_store_waiting_acquires)", "{{instance}} waiting"),
            ),
        ),
        Panel(
            "Evictions, from memory and from SSD",
            "The price of new blocks. Unwritten: evicted before the SSD had it, so lost; the disk is too slow for "
            "the load.",
            "ops",
            (
                Query(f"sum by (instance) (rate(moonpool_store_blocks_evicted_total[{RATE}]))", "{{instance}} memory"),
                Query(f"sum by (instance) (rate(moonpool_store_ssd_blocks_evicted_total[{RATE}]))", "{{instance}} SSD"),
                Query(
                    f"sum by (instance) (rate(moonpool_store_ssd_blocks_unwritten_total[{RATE}]))",
                    "{{instance}} unwritten",
                ),
            ),
        ),
        Panel(
            "Device blocks, by state",
            "Of workers. pinned: sequences have them; cached: reused if somebody comes for them; unused. All pinned: "
            "sequences are set back (Workers: preemptions).",
            "short",
            one("sum by (role, state) (moonpool_device_blocks)", "{{role}} {{state}}"),
            stacked=True,
        ),
        Panel(
            "Hot prefixes copied to other stores",
            "Ordered by conductors before anybody waits for them, and held by the store in the end.",
            "ops",
            (
                Query(f"sum(rate(moonpool_replications_ordered_total[{RATE}]))", "ordered"),
                Query(f"sum(rate(moonpool_replications_done_total[{RATE}]))", "done"),
            ),
        ),
    ),
)

SSD = Row(
    "SSD",
    (
        Panel(
            "State",
            "off: it was put away, and the cache is memory only. The store's log says why; a restart tries again.",
            "short",
            one('sum by (instance) (moonpool_store_ssd_state{state="off"})', "{{instance}}"),
            width=6,
            red=1,
            stat=True,
            words=((0, "not off"), (1, "off")),
        ),
        Panel(
            "Waiting to be written",
            "For how long the oldest block has been. What a killed host loses is no older than this; beyond 2 s the "
            "disk does not keep up.",
            "s",
            one("max by (instance) (moonpool_store_ssd_oldest_pending_seconds)", "{{instance}}"),
            width=6,
            yellow=2,
            red=10,
            stat=True,
        ),
        Panel(
            "Torn blocks",
            "Met when they were read, and not served. A few after a power loss; more, and the disk is broken.",
            "short",
            one("sum by (instance) (moonpool_store_ssd_blocks_torn_total)", "{{instance}}"),
            width=6,
            yellow=1,
            red=100,
            stat=True,
        ),
        Panel(
            "Search at the start",
            "What a store needed to find its file's blocks again.",
            "s",
            one("max by (instance) (moonpool_store_ssd_scan_seconds)", "{{instance}}"),
            width=6,
            stat=True,
        ),
        Panel(
            "Bytes read and written",
            "written: every sealed block (--ssd-admit). read: hits that memory did not have any more.",
            "Bps",
            one(f"sum by (instance, way) (rate(moonpool_store_ssd_bytes_total[{RATE}]))", "{{instance}} {{way}}"),
            rare=True,
        ),
        Panel(
            "Time in reads and writes",
            "Seconds of disk time per second: how many requests are under way. It rises when the disk slows down.",
            "short",
            one(f"sum by (instance, way) (rate(moonpool_store_ssd_seconds_total[{RATE}]))", "{{instance}} {{way}}"),
            rare=True,
        ),
        Panel(
            "File, by state of its slots",
            "held is what a restart finds again.",
            "short",
            one("sum by (instance, state) (moonpool_store_ssd_slots)", "{{instance}} {{state}}"),
            stacked=True,
        ),
    ),
)

DASHBOARD = Dashboard(
    "moonpool-disaggregation",
    "Moonpool: disaggregation and KV",
    "What is handed over and why, where blocks lie, what moves between hosts.",
    (HANDOFFS, TRANSFERS, CACHE, SSD),
)
