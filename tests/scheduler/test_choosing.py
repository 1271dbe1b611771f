"""Which workers are chosen, and who is not asked."""

import pytest

from scheduler import estimate
from scheduler.conductor import Conductor
from scheduler.vocabulary import Decision, Profile, RejectionCode, WorkerReport
from tests.scheduler.build import CPU, SIZE, ask, names, prompt, store_report, worker_report
from tests.scheduler.placing import D, M, P, conductor, placed, refused, where

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
            "this request has 100 tokens, and no worker takes more than 49",
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
