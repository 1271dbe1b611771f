"""Where requests are placed among several hosts, and what is fetched for them."""

import pytest

from scheduler.vocabulary import Outcome, RequestId, StoreId, StoreTarget, Target, WorkerId
from tests.scheduler.build import ask, worker_report
from tests.scheduler.placing import D, M, P, hosts, placed, where

# -- several hosts ----------------------------------------------------------------------------------------------------


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
