"""Whether a request is handed over, or prefilled where it decodes."""

import pytest

from scheduler import estimate
from scheduler.conductor import INLINE_BUSY_S, INLINE_IDLE_S
from scheduler.vocabulary import Decision, Role
from tests.scheduler.build import CPU, ask, worker_report
from tests.scheduler.placing import D, M, P, conductor, placed, where

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
