"""Where requests are placed, and why."""

from collections.abc import Sequence

import pytest

from kvstore.vocabulary import IdentityMismatch
from scheduler import estimate
from scheduler.conductor import INLINE_BUSY_S, INLINE_IDLE_S, Conductor
from scheduler.vocabulary import (
    Ask,
    Decision,
    Outcome,
    Placement,
    Profile,
    Rejection,
    RejectionCode,
    RequestId,
    Role,
    StoreId,
    StoreTarget,
    Target,
    WorkerId,
    WorkerReport,
)
from tests.scheduler.build import CPU, OTHER, SIZE, ask, names, prompt, store_report, worker_report

P, D, M = Role.PREFILL, Role.DECODE, Role.MIXED


def conductor(
    *workers: WorkerReport,
    held: int = 0,
    stores: Sequence[str] = ("s",),
    inline_max_tokens: int | None = None,
    policy: str = "kvcache-centric",
) -> Conductor:
    """With these workers; the first store holds that many tokens of ``prompt``."""
    made = Conductor(inline_max_tokens=inline_max_tokens, policy=policy)
    for worker in workers:
        made.worker_reported(worker, now=0)
    for index, store in enumerate(stores):
        made.store_reported(store_report(store, snapshot=True, gained=names(prompt(held if not index else 0))), now=0)
    return made


def placed(made: Conductor, asked: Ask, *, now: float = 0.0) -> Placement:
    answer = made.place(asked, now=now)
    assert isinstance(answer, Placement), answer
    return answer


def where(made: Conductor, asked: Ask) -> tuple[str | None, str]:
    answer = placed(made, asked)
    return (None if answer.prefill is None else answer.prefill.worker, answer.decode.worker)


def refused(made: Conductor, asked: Ask, *, now: float = 0.0) -> Rejection:
    answer = made.place(asked, now=now)
    assert isinstance(answer, Rejection), answer
    return answer


# -- handing over or inline -------------------------------------------------------------------------------------------


def test_a_long_prompt_is_prefilled_elsewhere() -> None:
    assert where(conductor(worker_report("p", P), worker_report("d", D)), ask(tokens=1000)) == ("p", "d")


def test_a_short_prompt_is_prefilled_where_it_decodes() -> None:
    assert where(conductor(worker_report("p", P), worker_report("d", D)), ask(tokens=40)) == (None, "d")


def test_a_long_prompt_of_which_little_is_uncached_is_prefilled_where_it_decodes() -> None:
    made = conductor(worker_report("p", P), worker_report("d", D), held=996)

    answer = placed(made, ask(tokens=1000))
    assert answer.prefill is None
    assert answer.predicted_cached_tokens == 996


def test_a_prompt_that_an_idle_worker_takes_inline_would_disturb_a_busy_one() -> None:
    tokens = 150
    assert INLINE_BUSY_S < estimate.prefill_s(CPU, tokens) < INLINE_IDLE_S
    busy = worker_report("d", D, running=3, kv_tokens=900)

    assert where(conductor(worker_report("p", P), worker_report("d", D)), ask(tokens=tokens)) == (None, "d")
    assert where(conductor(worker_report("p", P), busy), ask(tokens=tokens)) == ("p", "d")


def test_a_short_prompt_is_handed_over_when_the_decode_worker_has_prefills_queued() -> None:
    behind = worker_report("d", D, waiting=1, queued=400)

    assert where(conductor(worker_report("p", P), behind), ask(tokens=16)) == ("p", "d")


@pytest.mark.parametrize(("bound", "expected"), [(0, "p"), (16, "p"), (43, "p"), (44, None), (None, None)])
def test_the_operator_bounds_inline_prefills_by_uncached_tokens(bound: int | None, expected: str | None) -> None:
    made = conductor(worker_report("p", P), worker_report("d", D), held=100, inline_max_tokens=bound)

    assert where(made, ask(tokens=144))[0] == expected


def test_without_a_prefill_worker_everything_is_inline_even_if_that_is_not_wanted() -> None:
    for bound in (None, 0):
        assert where(conductor(worker_report("d", D), inline_max_tokens=bound), ask(tokens=3000)) == (None, "d")


def test_without_a_store_to_move_kv_through_everything_is_inline() -> None:
    for store in (None, "gone"):
        workers = [worker_report("p", P, store=store), worker_report("d", D, store=store)]
        assert where(conductor(*workers, inline_max_tokens=0), ask(tokens=3000)) == (None, "d")


def test_kv_is_handed_over_between_workers_of_one_store_only() -> None:
    made = conductor(
        worker_report("p", P, store="t"),
        worker_report("d0", D, store="s"),
        worker_report("d1", D, store="t", running=2, kv_tokens=500),
        stores=("s", "t"),
    )
    assert where(made, ask(tokens=3000)) == ("p", "d1")


# -- several hosts ----------------------------------------------------------------------------------------------------


def hosts(
    *workers: WorkerReport,
    held: dict[str, int] | None = None,
    ssd: dict[str, int] | None = None,
    silent: str = "",
    policy: str = "kvcache-centric",
) -> Conductor:
    """Stores s, t and u can be reached by each other, except a silent one; they hold so many tokens of ``prompt``."""
    made = conductor(*workers, stores=(), policy=policy)
    for store in "stu":
        dram, disk = (names(prompt((what or {}).get(store, 0))) for what in (held, ssd))
        report = store_report(store, snapshot=True, gained=dram, ssd_gained=disk, transfer=store != silent)
        made.store_reported(report, now=0)
    return made


def test_workers_of_different_stores_hand_over_where_those_can_be_reached() -> None:
    workers = worker_report("p", P, store="s"), worker_report("d", D, store="t")
    answer = placed(hosts(*workers), ask(tokens=3000))

    assert answer.prefill == Target(WorkerId("p"), "unix:/p", StoreTarget(StoreId("s"), "s:1"))
    assert answer.decode == Target(WorkerId("d"), "unix:/d", StoreTarget(StoreId("t"), "t:1"))
    assert answer.source is None
    for silent in "st":
        assert where(hosts(*workers, silent=silent), ask(tokens=3000)) == (None, "d")


def test_a_store_that_cannot_be_reached_serves_the_workers_that_share_it() -> None:
    answer = placed(hosts(worker_report("p", P), worker_report("d", D), silent="s"), ask(tokens=3000))

    assert answer.prefill == Target(WorkerId("p"), "unix:/p", None)


def test_a_prefill_on_the_decoding_host_is_preferred_until_its_queue_costs_more_than_the_transfer() -> None:
    def choice(queued: int) -> str | None:
        near = worker_report("near", P, store="t", queued=queued, waiting=1 if queued else 0, block_bytes=1 << 20)
        far = worker_report("far", P, store="s", block_bytes=1 << 20)
        return where(hosts(far, near, worker_report("d", D, store="t")), ask(tokens=3000))[0]

    assert [choice(queued) for queued in (0, 500)] == ["near", "far"]


def test_a_long_prefix_of_another_store_is_fetched_from_it_even_if_it_has_no_worker() -> None:
    workers = worker_report("p", P, store="s"), worker_report("d", D, store="t")
    made = hosts(*workers, held={"s": 100, "u": 2900})
    answer = placed(made, ask(tokens=3000))

    assert answer.source == StoreTarget(StoreId("u"), "u:1")
    assert answer.predicted_cached_tokens == 2900
    assert answer.predicted_ttft_s < placed(hosts(*workers, held={"s": 100}), ask(tokens=3000)).predicted_ttft_s


@pytest.mark.parametrize("held", [{"s": 2900, "u": 2904}, {"s": 2900, "u": 2900}, {"s": 2900, "u": 100}, {"u": 4}])
def test_what_saves_little_is_not_fetched(held: dict[str, int]) -> None:
    assert placed(hosts(worker_report("m", M, store="s"), held=held), ask(tokens=3000)).source is None


def test_a_store_that_cannot_be_reached_is_no_source() -> None:
    made = hosts(worker_report("d", D, store="t"), held={"u": 2900}, silent="u")

    assert placed(made, ask(tokens=3000)).source is None


def test_a_fetch_that_takes_longer_than_computing_is_not_made() -> None:
    def source(block_bytes: int) -> StoreTarget | None:
        worker = worker_report("d", D, store="t", block_bytes=block_bytes)
        return placed(hosts(worker, held={"u": 2900}), ask(tokens=3000)).source

    assert source(1 << 20) is not None
    assert source(1 << 30) is None


def test_what_is_on_the_ssd_counts_at_the_cost_of_reading_it() -> None:
    def ttft_s(**where: int) -> float:
        worker = worker_report("d", D, store="t", block_bytes=1 << 20)
        made = hosts(worker, **{tier: {"t": tokens} for tier, tokens in where.items()})  # type: ignore[arg-type]
        return placed(made, ask(tokens=3000)).predicted_ttft_s

    assert ttft_s(held=2900) < ttft_s(held=1000, ssd=2900) < ttft_s(ssd=2900) < ttft_s()
    assert ttft_s(held=2900, ssd=2900) == ttft_s(held=2900)


def test_of_equal_replicas_the_one_with_less_to_send_is_fetched_from() -> None:
    made = hosts(
        *(worker_report(f"m{n}", M, store="s", block_bytes=1 << 20) for n in range(4)), held=dict.fromkeys("tu", 2900)
    )

    sources = [placed(made, ask(f"{number}", tokens=3000)).source for number in range(4)]
    assert [source.store for source in sources if source is not None] == ["t", "u", "t", "u"]


def test_a_store_that_has_much_to_send_is_not_fetched_from() -> None:
    def fetches(outstanding: int) -> bool:
        workers = [worker_report(f"m{n}", M, store="s", block_bytes=1 << 21) for n in range(20)]
        made = hosts(*workers, held={"u": 2900})
        answers = [placed(made, ask(f"{number}", tokens=3000)) for number in range(outstanding + 1)]
        return answers[-1].source is not None

    assert fetches(0)
    assert not fetches(9)


def test_the_transfers_of_a_request_that_has_ended_are_over() -> None:
    made = hosts(*(worker_report(f"m{n}", M, store="s", block_bytes=1 << 21) for n in range(2)), held={"u": 2900})
    alone = placed(made, ask("x", tokens=3000)).predicted_ttft_s
    assert placed(made, ask("y", tokens=3000)).predicted_ttft_s > alone
    for request in "xy":
        made.outcome(RequestId(request), Outcome.CANCELLED, now=0)

    assert placed(made, ask("z", tokens=3000)).predicted_ttft_s == alone


def test_a_sender_is_busy_for_whoever_fetches_from_it_next() -> None:
    """Though the second one's own link is free."""
    workers = [worker_report(name, M, store=store, block_bytes=1 << 20) for name, store in (("m0", "s"), ("m1", "t"))]
    made = hosts(*workers, held={"u": 2900})
    first, second = (placed(made, ask(name, tokens=3000)) for name in "xy")

    assert {first.decode.worker, second.decode.worker} == {"m0", "m1"}
    assert first.source == second.source == StoreTarget(StoreId("u"), "u:1")
    assert second.predicted_ttft_s > first.predicted_ttft_s + 0.1


def test_a_fetch_that_is_through_before_its_turn_comes_costs_nothing() -> None:
    """It overlaps the queue, where the paper's formula adds the two."""
    queue = worker_report("m", M, store="s", queued=3000, waiting=1, block_bytes=1 << 20)
    far, near = (placed(hosts(queue, held={store: 2900}), ask(tokens=3000)) for store in "us")

    assert far.source is not None
    assert near.source is None
    assert far.predicted_ttft_s == near.predicted_ttft_s


def test_a_transfer_is_over_in_its_time_though_nobody_tells_its_end() -> None:
    made = hosts(worker_report("m", M, store="s", block_bytes=1 << 20), held={"u": 2900})
    stores = made._beliefs.store_table

    def sends_s() -> float:
        return float(stores.rows["sends_s"][stores.row(StoreId("u"))])

    placed(made, ask("x", tokens=3000))
    assert sends_s() > 0.2
    placed(made, ask("y", tokens=1), now=1.4)
    assert sends_s() == 0.0


def test_the_decode_worker_is_chosen_with_the_prefill_worker() -> None:
    """The remote one would be a little faster, if its KV did not have to come over a slow link."""

    def choice(block_bytes: int) -> str:
        workers = [
            worker_report("p", P, store="s", block_bytes=block_bytes),
            worker_report("near", D, store="s", running=2, kv_tokens=2000, block_bytes=block_bytes),
            worker_report("far", D, store="t", running=1, kv_tokens=1000, block_bytes=block_bytes),
        ]
        return where(hosts(*workers), ask(tokens=3000))[1]

    assert [choice(1 << 10), choice(1 << 25)] == ["far", "near"]


# -- prefixes that are being computed ---------------------------------------------------------------------------------


def test_a_prompt_waits_for_the_same_one_that_is_being_computed_rather_than_compute_it_again() -> None:
    made = hosts(
        worker_report("p0", P, store="s"), worker_report("p1", P, store="t", queued=500, waiting=1), worker_report("d")
    )
    first = placed(made, ask("x", tokens=2000))
    second = placed(made, ask("y", tokens=2000))

    assert first.prefill is not None
    assert second.prefill is not None
    assert (first.prefill.worker, second.prefill.worker) == ("p0", "p0")
    assert second.predicted_cached_tokens == 1996
    assert second.predicted_ttft_s == pytest.approx(first.predicted_ttft_s, rel=0.02)
    for request in "xy":
        made.outcome(RequestId(request), Outcome.CANCELLED, now=0)
    assert placed(made, ask("z", tokens=2000)).predicted_cached_tokens == 0


def test_who_would_begin_before_a_prefix_is_there_computes_it() -> None:
    made = hosts(worker_report("p0", P), worker_report("p1", P), worker_report("d"), policy="local-cache")
    placed(made, ask("x", tokens=2000))
    answer = placed(made, ask("y", tokens=2000))

    assert answer.prefill is not None
    assert answer.prefill.worker == "p1"
    assert answer.predicted_cached_tokens == 0


# -- mixed workers ----------------------------------------------------------------------------------------------------


def test_mixed_workers_share_requests_and_do_not_hand_over_to_each_other() -> None:
    made = conductor(worker_report("m0", M), worker_report("m1", M))

    assert [where(made, ask(f"{index}", tokens=500)) for index in range(4)] == [
        (None, "m0"),
        (None, "m1"),
        (None, "m0"),
        (None, "m1"),
    ]


def test_mixed_workers_hand_over_to_each_other_where_that_is_insisted_on() -> None:
    made = conductor(worker_report("m0", M), worker_report("m1", M), inline_max_tokens=0)
    prefill, decode = where(made, ask(tokens=500))

    assert {prefill, decode} == {"m0", "m1"}


def test_the_only_worker_that_could_prefill_is_not_chosen_to_decode_where_handing_over_is_insisted_on() -> None:
    made = conductor(worker_report("a", M), worker_report("b", D), inline_max_tokens=0)

    assert where(made, ask(tokens=500)) == ("a", "b")


# -- which prefill worker ---------------------------------------------------------------------------------------------


def test_the_prefill_worker_with_the_shorter_queue_is_chosen() -> None:
    made = conductor(
        worker_report("p0", P, queued=2000, waiting=2),
        worker_report("p1", P, queued=500, waiting=1),
        worker_report("d"),
    )
    assert where(made, ask(tokens=1000)) == ("p1", "d")


def test_a_prefix_draws_a_request_to_its_store_until_the_queue_there_costs_more() -> None:
    def choice(queued: int) -> str:
        near = worker_report("near", M, store="s", queued=queued, waiting=1 if queued else 0)
        made = conductor(near, worker_report("far", M, store="t"), held=2000, stores=("s", "t"))
        return where(made, ask(tokens=2100))[1]

    assert [choice(queued) for queued in (0, 1500, 4000)] == ["near", "near", "far"]


def test_a_text_that_one_worker_computes_is_not_computed_by_the_idle_ones_too() -> None:
    workers = worker_report("p0", P, store="s"), worker_report("p1", P, store="t"), worker_report("d", seats=64)
    chosen = {}
    for policy in ("kvcache-centric", "local-cache"):
        made = conductor(*workers, stores=("s", "t"), policy=policy)
        for store in "st":
            made.store_reported(store_report(store, sequence=2, transfer=True), now=0)
        chosen[policy] = [where(made, ask(f"{index}", tokens=2000))[0] for index in range(4)]

    assert chosen == {"kvcache-centric": ["p0"] * 4, "local-cache": ["p0", "p1", "p0", "p1"]}


def test_what_was_placed_a_moment_ago_counts_as_queued() -> None:
    workers = worker_report("p0", P), worker_report("p1", P), worker_report("d", seats=64)
    made = conductor(*workers, policy="local-cache")

    assert [where(made, ask(f"{index}", tokens=1000))[0] for index in range(4)] == ["p0", "p1", "p0", "p1"]


def test_a_faster_prefill_worker_gets_more() -> None:
    slow = worker_report("slow", P)
    fast = worker_report("fast", P, profile=Profile((0.001, 1 / 15000, 1e-9), CPU.step_s))
    made = conductor(slow, fast, worker_report("d", seats=64))
    chosen = [where(made, ask(f"{index}", tokens=1000))[0] for index in range(11)]

    assert chosen.count("slow") <= 1


# -- which decode worker ----------------------------------------------------------------------------------------------


def test_the_decode_worker_with_the_least_step_time_is_chosen() -> None:
    made = conductor(
        worker_report("p", P),
        worker_report("d0", running=4, kv_tokens=4000),
        worker_report("d1", running=4, kv_tokens=900),
        worker_report("d2", running=6, kv_tokens=4000),
    )
    answer = placed(made, ask(tokens=1000))
    assert answer.decode.worker == "d1"
    assert answer.predicted_tpot_s == pytest.approx(estimate.step_s(CPU, 5, 1900))


def test_a_worker_without_room_for_the_kv_or_without_a_seat_is_the_last_choice() -> None:
    busy = worker_report("busy", running=7, kv_tokens=9000)
    for small in (worker_report("full", blocks_free=1000 // SIZE), worker_report("full", running=8, seats=8)):
        assert where(conductor(worker_report("p", P), busy, small), ask(tokens=1000)) == ("p", "busy")


def test_where_all_are_full_the_shortest_queue_is_joined() -> None:
    made = conductor(
        worker_report("p", P),
        worker_report("d0", running=8, waiting=5, kv_tokens=5000),
        worker_report("d1", running=8, waiting=1, kv_tokens=5000),
    )
    assert where(made, ask(tokens=1000)) == ("p", "d1")


def test_seats_promised_a_moment_ago_are_taken() -> None:
    made = conductor(worker_report("p", P), worker_report("d0"), worker_report("d1"))

    assert [where(made, ask(f"{index}", tokens=1000))[1] for index in range(4)] == ["d0", "d1", "d0", "d1"]


# -- who is not asked -------------------------------------------------------------------------------------------------


def test_who_is_excluded_draining_or_silent_gets_nothing() -> None:
    made = conductor(
        worker_report("p0", P),
        worker_report("p1", P, draining=True),
        worker_report("p2", P, queued=900, waiting=1),
        worker_report("d0"),
        worker_report("d1", draining=True),
        worker_report("d2", running=3, kv_tokens=4000),
    )
    assert where(made, ask(tokens=3000, excluded=["p0", "d0"])) == ("p2", "d2")
    assert refused(made, ask(tokens=3000), now=2.0).reason == "no worker is alive"


def test_a_prompt_beyond_a_workers_context_goes_to_one_with_a_longer_one() -> None:
    made = conductor(
        worker_report("p", P, context=1000), worker_report("d", context=4096), worker_report("e", context=64)
    )

    assert where(made, ask(tokens=2000)) == (None, "d")


@pytest.mark.parametrize(
    ("workers", "code", "reason"),
    [
        ([], RejectionCode.UNAVAILABLE, "no worker is alive"),
        ([worker_report("d", draining=True)], RejectionCode.UNAVAILABLE, "every worker is shutting down"),
        (
            [worker_report("d", context=50)],
            RejectionCode.UNAVAILABLE,
            "this request has 100 tokens, and no worker takes more than 50",
        ),
        (
            [worker_report("excluded")],
            RejectionCode.UNAVAILABLE,
            "every worker that could take this request has refused it or failed at it",
        ),
        (
            [worker_report("excluded", running=8, seats=8)],
            RejectionCode.OVERLOADED,
            "no worker has room for this request now",
        ),
    ],
)
def test_a_rejection_says_what_would_have_to_change(
    workers: list[WorkerReport], code: RejectionCode, reason: str
) -> None:
    rejection = refused(conductor(*workers), ask(tokens=100, excluded=["excluded"]))

    assert (rejection.code, rejection.reason) == (code, reason)
    assert rejection.retry_after_s > 0


# -- predictions ------------------------------------------------------------------------------------------------------


def test_the_predicted_ttft_is_queue_and_lift_and_prefill() -> None:
    made = conductor(worker_report("p", P, queued=300, waiting=1), worker_report("d"), held=800)
    answer = placed(made, ask(tokens=2000))

    queue_s = estimate.prefill_s(CPU, 300)
    lift_s = estimate.transfer_s(CPU, 200 * 1024)
    assert answer.predicted_cached_tokens == 800
    assert answer.predicted_ttft_s == pytest.approx(queue_s + lift_s + estimate.prefill_s(CPU, 2000, 800))


def test_the_last_token_is_never_counted_as_cached() -> None:
    made = conductor(worker_report("d"), held=100)

    assert placed(made, ask(tokens=100)).predicted_cached_tokens == 96


def test_who_was_heard_first_does_not_get_all_before_the_others_have_told_of_themselves() -> None:
    made = Conductor(settles_s=0.15)
    made.worker_reported(worker_report("w0"), now=10.0)
    answer = refused(made, ask(), now=10.1)
    assert answer.code is RejectionCode.UNAVAILABLE
    assert "has just started" in answer.reason
    made.worker_reported(worker_report("w1"), now=10.1)
    assert {placed(made, ask(f"{number}"), now=10.2).decode.worker for number in range(2)} == {"w0", "w1"}


# -- what the gateway tells -------------------------------------------------------------------------------------------


def test_a_handoff_frees_the_prefill_queue_and_an_end_frees_the_seat() -> None:
    made = conductor(worker_report("p", P), worker_report("d"))
    idle = placed(made, ask("x", tokens=2000))

    made.outcome(RequestId("x"), Outcome.HANDED_OVER, now=0)
    after = placed(made, ask("y", tokens=2000))
    assert after.predicted_ttft_s == idle.predicted_ttft_s
    assert after.predicted_tpot_s > idle.predicted_tpot_s
    for request in ("x", "y"):
        made.outcome(RequestId(request), Outcome.FINISHED, now=0)
    assert placed(made, ask("z", tokens=2000)) == Placement(
        RequestId("z"),
        idle.decode,
        idle.prefill,
        idle.predicted_ttft_s,
        idle.predicted_tpot_s,
        idle.predicted_cached_tokens,
        idle.decision,
    )
    assert made.snapshot().handoffs == 1


def test_outcomes_of_requests_that_another_conductor_placed_are_counted_and_harmless() -> None:
    made = conductor(worker_report("d"))
    made.outcome(RequestId("x"), Outcome.HANDED_OVER, now=0)
    made.outcome(RequestId("x"), Outcome.FAILED, now=0)

    assert made.snapshot().handoffs == 1


# -- what it shows ----------------------------------------------------------------------------------------------------


def test_a_snapshot_shows_who_is_believed_alive_in_order() -> None:
    made = conductor(worker_report("p", P), worker_report("d"), held=100)
    snapshot = made.snapshot()

    assert [worker.worker for worker in snapshot.workers] == ["d", "p"]
    assert [(store.store, store.gained) for store in snapshot.stores] == [("s", ())]
    made.tick(now=5)
    assert made.snapshot().workers == ()
    assert made.snapshot().identity is None


def test_a_worker_of_another_model_is_refused_with_what_differs() -> None:
    made = conductor(worker_report("d"))

    with pytest.raises(IdentityMismatch, match="model weights bb instead of aa"):
        made.worker_reported(worker_report("e", identity=OTHER), now=0)
    assert not made.worker_reported(worker_report("e"), now=0)


# -- one role left ----------------------------------------------------------------------------------------------------


def test_without_a_decode_worker_the_prefill_workers_do_it_all_and_that_is_counted() -> None:
    workers = worker_report("p0", P), worker_report("p1", P), worker_report("d", D, draining=True)
    made = conductor(*workers, policy="local-cache")

    assert [where(made, ask(f"{number}", tokens=1000)) for number in range(2)] == [(None, "p0"), (None, "p1")]
    assert made.snapshot().decisions == {Decision.DEGRADED: 2}
    assert made.snapshot().degraded == "No decode worker lives: prefill workers decode what they prefill."


def test_without_a_prefill_worker_the_decode_workers_prefill_and_that_is_counted() -> None:
    made = conductor(worker_report("p", P, draining=True), worker_report("d", D))

    assert where(made, ask(tokens=1000)) == (None, "d")
    assert made.snapshot().decisions == {Decision.DEGRADED: 1}
    assert made.snapshot().degraded == "No prefill worker lives: decode workers prefill inline."


def test_mixed_workers_are_of_both_roles() -> None:
    made = conductor(worker_report("m", Role.MIXED))

    assert where(made, ask(tokens=1000)) == (None, "m")
    assert made.snapshot().degraded is None
    assert made.snapshot().decisions == {Decision.INLINE_ALONE: 1}


def test_a_request_that_every_decode_worker_has_failed_is_given_to_a_prefill_worker() -> None:
    made = conductor(worker_report("p", P), worker_report("d", D))

    assert where(made, ask(tokens=1000, excluded=["d"])) == (None, "p")


# -- policies ---------------------------------------------------------------------------------------------------------


def three_hosts(policy: str, *, seed: int = 0) -> Conductor:
    """p0 has most of the prompt and a queue, p1 has nothing to do, p2 has half of it and a short queue."""
    made = Conductor(policy=policy, seed=seed)
    held = {"s": 2000, "t": 0, "u": 1000}
    for store, tokens in held.items():
        made.store_reported(store_report(store, snapshot=True, gained=names(prompt(tokens)), transfer=True), now=0)
    made.worker_reported(worker_report("p0", P, store="s", queued=3000, waiting=1), now=0)
    made.worker_reported(worker_report("p1", P, store="t"), now=0)
    made.worker_reported(worker_report("p2", P, store="u", queued=100, waiting=1), now=0)
    made.worker_reported(worker_report("d", D, store="t", running=3, kv_tokens=900), now=0)
    return made


@pytest.mark.parametrize(
    ("policy", "expected", "source"),
    [
        ("kvcache-centric", "p1", "s"),
        ("local-cache", "p2", None),
        ("least-loaded", "p1", None),
        ("longest-prefix", "p0", None),
    ],
)
def test_a_policy_chooses_by_what_it_is_named_for(policy: str, expected: str, source: str | None) -> None:
    answer = placed(three_hosts(policy), ask(tokens=2100))

    assert answer.prefill is not None
    assert answer.prefill.worker == expected
    assert (None if answer.source is None else answer.source.store) == source


def test_lots_are_drawn_from_the_seed() -> None:
    def drawn(seed: int) -> list[str | None]:
        made = three_hosts("random", seed=seed)
        return [where(made, ask(f"{number}", tokens=2100))[0] for number in range(30)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert set(drawn(1)) == {"p0", "p1", "p2"}


def test_a_policy_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no policy is called 'best'; there are kvcache-centric, "):
        Conductor(policy="best")


def test_the_kinds_of_placements_are_counted() -> None:
    made = conductor(worker_report("p", P), worker_report("d", D, seats=64))
    for number, tokens in enumerate((40, 1000, 1000)):
        placed(made, ask(f"{number}", tokens=tokens))

    assert made.snapshot().decisions == {Decision.INLINE_SOONER: 1, Decision.HANDED_OVER: 2}
    alone = conductor(worker_report("p", P, store=None), worker_report("d", D))
    placed(alone, ask(tokens=1000))
    assert alone.snapshot().decisions == {Decision.INLINE_ALONE: 1}
