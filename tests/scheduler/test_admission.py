"""Who is taken and who is refused: by mode, priority, tenant and patience."""

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.admission import (
    BATCH_LOAD,
    BATCH_PATIENCE_S,
    FAIR_LOAD,
    LONGEST_RETRY_S,
    QUEUE_LOAD,
    Admission,
    Loads,
    limit,
    refused,
)
from scheduler.conductor import Conductor
from scheduler.estimate import step_s
from scheduler.refusals import told
from scheduler.shares import HALF_LIFE_S, Shares
from scheduler.vocabulary import (
    Ask,
    Measured,
    Outcome,
    Placement,
    Priority,
    Promise,
    Rejection,
    RejectionCode,
    RequestId,
    Role,
    WorkerId,
    WorkerReport,
)
from tests.scheduler.build import CPU, ask, names, prompt, store_report, worker_report

PROMISE = Promise(ttft_s=2.0, tpot_s=0.03)
MODES = [mode.value for mode in Admission]
BATCH = Priority.BATCH


def conductor(mode: str, *workers: WorkerReport, promise: Promise = PROMISE, queue_s: float = 5.0) -> Conductor:
    made = Conductor(admission=mode, promise=promise, queue_s=queue_s)
    for worker in workers:
        made.worker_reported(worker, now=0)
    made.store_reported(store_report(snapshot=True), now=0)
    return made


def pools(mode: str, *, queued: int = 0, running: int = 0, queue_s: float = 5.0) -> Conductor:
    """One prefill worker and one decode worker; a sequence more there takes 0.6 ms, and 1,000 of its tokens 1 ms."""
    prefill = worker_report("p", Role.PREFILL, queued=queued, waiting=1 if queued else 0)
    decode = worker_report("d", Role.DECODE, running=running, kv_tokens=1000 * running, seats=64, blocks_free=90_000)
    return conductor(mode, prefill, decode, queue_s=queue_s)


def taken(made: Conductor, asked: Ask, *, now: float = 0.0) -> bool:
    answer = made.place(asked, now=now)
    assert isinstance(answer, Placement) or answer.code is RejectionCode.UNATTAINABLE
    return isinstance(answer, Placement)


# -- modes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "late", "later", "slow"),
    [
        ("off", True, True, True),
        ("queue", True, False, True),
        ("baseline", False, False, True),
        ("early", False, False, False),
        ("predictive", False, False, False),
    ],
)
def test_a_mode_refuses_what_it_looks_at(mode: str, late: bool, later: bool, slow: bool) -> None:
    assert taken(pools(mode), ask(tokens=1000))
    assert taken(pools(mode, queued=3000), ask(tokens=1000)) is late
    assert taken(pools(mode, queued=9000), ask(tokens=1000)) is later
    assert taken(pools(mode, running=20), ask(tokens=1000)) is slow


def test_a_refusal_says_what_would_have_been_late_and_when_to_come_back() -> None:
    answer = pools("early", queued=3000).place(ask(tokens=1000), now=0)
    assert isinstance(answer, Rejection)
    assert answer.code is RejectionCode.UNATTAINABLE
    assert answer.reason == "first token predicted in 3.02 s, promised within 2 s"
    assert answer.predicted_ttft_s == pytest.approx(3.02, abs=0.01)
    # It is to find half of what others' work may take up, 0.85 of what is left of 2 s beside its own, less a step.
    room_s = 0.85 * (2.0 - 0.68) - 0.25
    assert answer.retry_after_s == pytest.approx(1.15 * (2.09 - room_s / 2), abs=0.02)

    answer = pools("early", running=20).place(ask(tokens=1000), now=0)
    assert isinstance(answer, Rejection)
    assert answer.reason == "a token predicted every 43.6 ms, promised every 30 ms"
    assert answer.predicted_ttft_s == pytest.approx(0.68, abs=0.01)


def test_where_waiting_is_no_use_the_refusal_says_so_and_nobody_is_told_to_come_back_soon() -> None:
    """1,000 tokens take 0.68 s by themselves, and a step with one sequence more than 12 ms."""
    asked = ask(tokens=1000)
    for hopeless, alone in (
        (replace(asked, ttft_slo_s=0.1), "asked for within 100 ms; on an idle cluster it would take 681 ms"),
        (replace(asked, tpot_slo_s=0.001), "asked for every 1 ms; on an idle cluster, every 11.6 ms"),
    ):
        answer = pools("early").place(hopeless, now=0)
        assert isinstance(answer, Rejection)
        assert alone in answer.reason
        assert answer.retry_after_s == LONGEST_RETRY_S
        assert answer.futile
    answer = pools("early", queued=3000).place(ask(tokens=1000), now=0)
    assert isinstance(answer, Rejection)
    assert "idle" not in answer.reason
    assert not answer.futile


def test_a_request_may_want_other_times_than_are_promised() -> None:
    hurried = replace(ask(tokens=1000), ttft_slo_s=0.1)
    patient = replace(ask(tokens=1000), ttft_slo_s=60.0, tpot_slo_s=1.0)

    assert not taken(pools("early"), hurried)
    assert taken(pools("early", queued=3000, running=20), patient)


@pytest.mark.parametrize("mode", ["baseline", "early", "predictive"])
def test_a_promise_counts_from_when_the_request_came_to_its_gateway(mode: str) -> None:
    """0.68 s of its own work, 0.75 s of others': both fit into 1.8 of 2 s, but not where 0.4 s have passed."""
    asked = ask(tokens=1000)
    refused = pools(mode, queued=750).place(replace(asked, spent_s=0.4), now=0)

    assert taken(pools(mode, queued=750), asked)
    assert isinstance(refused, Rejection)
    assert refused.predicted_ttft_s == pytest.approx(0.68 + 0.5 + 0.25 + 0.4, abs=0.05)


def test_others_work_may_take_up_a_part_of_a_promise_and_the_rest_is_kept() -> None:
    refused = pools("early", queued=1300).place(ask(tokens=1000), now=0)

    assert isinstance(refused, Rejection)
    assert (
        refused.reason
        == "first token predicted in 1.82 s, promised within 2 s, and taken where it is predicted within 1.8 s"
    )


def test_workers_are_told_who_was_admitted() -> None:
    for mode in MODES:
        answer = pools(mode).place(ask(tokens=1000), now=0)
        assert isinstance(answer, Placement)
        assert answer.admitted == (mode != "off")


def test_a_stream_that_has_begun_is_never_refused_for_being_late() -> None:
    assert taken(pools("early", queued=9000, running=30), replace(ask(tokens=1000), resumed=True))


def test_the_next_candidate_is_tried_before_refusing() -> None:
    """Each pool has one worker that could not keep the promise."""
    made = conductor(
        "early",
        worker_report("p0", Role.PREFILL, queued=9000, waiting=1),
        worker_report("p1", Role.PREFILL),
        worker_report("d0", Role.DECODE, running=20, kv_tokens=20_000, seats=64),
        worker_report("d1", Role.DECODE, running=5, kv_tokens=5_000, seats=64),
    )
    answer = made.place(ask(tokens=1000), now=0)

    assert isinstance(answer, Placement)
    assert answer.prefill is not None
    assert (answer.prefill.worker, answer.decode.worker) == ("p1", "d1")


def test_a_decode_worker_that_keeps_the_promise_is_taken_though_its_kv_has_far_to_go() -> None:
    """By cost alone it would be the near one, which is too slow for what was promised."""
    workers = [
        worker_report("p", Role.PREFILL, store="s", block_bytes=1 << 25),
        worker_report("near", Role.DECODE, store="s", running=6, kv_tokens=4000, block_bytes=1 << 25),
        worker_report("far", Role.DECODE, store="t", running=1, kv_tokens=1000, block_bytes=1 << 25),
    ]

    def choice(tpot_s: float) -> Placement:
        made = Conductor(admission="early", promise=Promise(90.0, tpot_s))
        for worker in workers:
            made.worker_reported(worker, now=0)
        for store in "st":
            made.store_reported(store_report(store, snapshot=True, transfer=True), now=0)
        answer = made.place(ask(tokens=3000, most=10), now=0)
        assert isinstance(answer, Placement)
        return answer

    near = choice(9.0)
    assert near.decode.worker == "near"
    assert choice(0.99 * near.predicted_tpot_s).decode.worker == "far"


def test_a_prefill_worker_that_keeps_the_promise_is_taken_whatever_the_policy_likes_better() -> None:
    made = Conductor(admission="early", promise=PROMISE, policy="longest-prefix")
    holder = worker_report("holder", Role.PREFILL, store="s", queued=9000, waiting=1)
    for worker in (holder, worker_report("p", Role.PREFILL, store="t"), worker_report("d", Role.DECODE, store="t")):
        made.worker_reported(worker, now=0)
    made.store_reported(store_report("s", snapshot=True, gained=names(prompt(900)), transfer=True), now=0)
    made.store_reported(store_report("t", snapshot=True, transfer=True), now=0)
    answer = made.place(ask(tokens=1000), now=0)

    assert isinstance(answer, Placement)
    assert answer.prefill is not None
    assert answer.prefill.worker == "p"


def test_what_is_refused_books_nothing() -> None:
    made = pools("early", queued=1500)
    before = made.place(ask("x", tokens=500), now=0)
    made.outcome(RequestId("x"), Outcome.CANCELLED, now=0)
    for number in range(5):
        assert not taken(made, ask(f"{number}", tokens=3000))

    after = made.place(ask("x", tokens=500), now=0)
    assert after == before
    assert made.snapshot().refused == 5


# -- the decode pool as it will be ------------------------------------------------------------------------------------


def test_prediction_sees_the_decodes_that_will_have_begun_and_early_does_not() -> None:
    """Seven prefills are under way: none decodes yet, all will."""

    def accepts(mode: str) -> int:
        made = pools(mode)
        asks = [replace(ask(f"{n}", tokens=1000), ttft_slo_s=90.0, tpot_slo_s=0.0155) for n in range(12)]
        return sum(taken(made, each) for each in asks)

    assert accepts("early") == 12
    assert 2 <= accepts("predictive") <= 6


def test_prediction_sees_that_decodes_will_have_ended_and_early_does_not() -> None:
    """20 sequences decode, and the prefill takes as long as most of them."""

    def accepts(mode: str) -> bool:
        made = pools(mode, running=20, queued=9000)
        return taken(made, replace(ask(tokens=1000), ttft_slo_s=90.0, tpot_slo_s=0.035))

    assert (accepts("early"), accepts("predictive")) == (False, True)


def test_how_long_decodes_last_is_learned_from_those_that_finish() -> None:
    made = pools("predictive")
    flights = made._beliefs.flights
    for number in range(200):
        assert taken(made, ask(f"{number}", tokens=100), now=0)
        made.outcome(RequestId(f"{number}"), Outcome.HANDED_OVER, now=1)
        made.outcome(RequestId(f"{number}"), Outcome.FINISHED, now=4)

    assert flights.lasts_s(30.0, now=4) == pytest.approx((200 * 3 + 20 * 30) / 220, rel=0.1)
    for number in range(200, 300):  # and from those that still run: nobody has finished for a minute
        assert taken(made, replace(ask(f"{number}", tokens=100), ttft_slo_s=90.0, tpot_slo_s=9.0, resumed=True), now=1)
        made.outcome(RequestId(f"{number}"), Outcome.HANDED_OVER, now=4)
    assert flights.lasts_s(30.0, now=64) == pytest.approx((200 * 3 + 100 * 60 + 20 * 30) / 220, rel=0.1)


@pytest.mark.parametrize("mode", ["baseline", "early", "predictive"])
def test_the_decode_is_looked_at_again_when_the_prefill_is_done(mode: str) -> None:
    made = pools(mode)
    assert taken(made, ask("x", tokens=1000))
    full = worker_report("d", Role.DECODE, sequence=2, running=20, kv_tokens=20_000, seats=64, blocks_free=90_000)
    made.worker_reported(full, now=0)
    refused = made.decode_begins(RequestId("x"), now=0)

    assert refused is not None
    assert refused.reason == "a token predicted every 43.6 ms, promised every 30 ms; its prompt was computed in vain"
    assert made.snapshot().prefills_wasted == 1
    idle = pools(mode)
    assert taken(idle, ask("x", tokens=1000))
    assert idle.decode_begins(RequestId("x"), now=0) is None


@pytest.mark.parametrize("mode", ["off", "queue"])
def test_who_promises_no_pace_does_not_look_again(mode: str) -> None:
    made = pools(mode, running=20)
    placed = made.place(ask("x", tokens=1000), now=0)

    assert isinstance(placed, Placement)
    assert not placed.second_check
    assert made.decode_begins(RequestId("x"), now=0) is None


@pytest.mark.parametrize(("counted", "takes"), [(20 / 1.4, False), (20 / 1.2, True)])
def test_prediction_takes_some_more_than_it_counts_since_the_pool_is_looked_at_again(
    counted: float, takes: bool
) -> None:
    """20 sequences decode, all of them still at the hand-over; promised is the pace of a smaller batch."""
    paced = replace(ask(tokens=100), tpot_slo_s=step_s(CPU, counted + 1, 1000 * counted + 100))

    assert taken(pools("predictive", running=20), paced) is takes
    assert not taken(pools("early", running=20), paced)


def full(made: Conductor, *, running: int, kv_tokens: int) -> None:
    """The decode worker of ``pools`` says that so many run there."""
    report = worker_report(
        "d", Role.DECODE, sequence=2, running=running, kv_tokens=kv_tokens, seats=64, blocks_free=90_000
    )
    made.worker_reported(report, now=0)


def patient(asked: Ask) -> Ask:
    return replace(asked, ttft_slo_s=900.0, tpot_slo_s=900.0)


@pytest.mark.parametrize("mode", ["early", "predictive"])
@pytest.mark.parametrize(("most", "takes"), [(10, True), (343, False)])
def test_there_must_be_room_for_the_answer_too(mode: str, most: int, takes: bool) -> None:
    """For all but 200 tokens there is, and one sequence runs."""
    made = conductor(mode, worker_report("p", Role.PREFILL, context=99_000), worker_report("d", context=99_000))
    capacity = made._beliefs.workers[WorkerId("d")].report.device_blocks_total * made._beliefs.block_tokens
    asked = patient(ask(tokens=capacity - 200, most=most))

    assert taken(made, asked) is takes


@pytest.mark.parametrize(("mode", "full"), [("early", 8), ("predictive", 11)])
def test_there_must_be_a_seat(mode: str, full: int) -> None:
    """Prediction hopes for some to leave."""

    def seated(running: int) -> bool:
        decode = worker_report("d", Role.DECODE, running=running, kv_tokens=100 * running, seats=8)
        made = conductor(mode, worker_report("p", Role.PREFILL), decode)
        return taken(made, patient(ask(tokens=100)))

    assert seated(7)
    assert not seated(full)


def test_who_comes_to_a_full_worker_with_its_prefill_done_is_refused_though_the_pace_were_kept() -> None:
    for running, kv_tokens in ((64, 1000), (2, 90_000 * 16)):
        made = pools("baseline")
        assert taken(made, patient(ask("x", tokens=1000)))
        full(made, running=running, kv_tokens=kv_tokens)
        refused = made.decode_begins(RequestId("x"), now=0)
        assert refused is not None
        assert "in vain" in refused.reason


def test_the_last_look_goes_by_what_was_promised_to_this_request() -> None:
    made = pools("baseline")
    assert taken(made, patient(ask("patient", tokens=1000)))
    assert taken(made, ask("x", tokens=1000))
    full(made, running=20, kv_tokens=20_000)

    assert made.decode_begins(RequestId("patient"), now=0) is None
    assert made.decode_begins(RequestId("x"), now=0) is not None


def test_the_last_look_is_corrected_by_what_most_have_really_taken_since_their_last_look() -> None:
    """Five run and 0.022 s are seen; twice that is measured, again and again, where 0.03 were promised."""
    made = pools("baseline")
    for number in range(200):
        assert taken(made, ask(f"{number}", tokens=1000))
        full(made, running=5, kv_tokens=5_000)
        seen_s = step_s(CPU, 6, 6_000)
        if made.decode_begins(RequestId(f"{number}"), now=0) is not None:
            break
        made.outcome(RequestId(f"{number}"), Outcome.FINISHED, now=0, measured=Measured(0.7, 2 * seen_s))
    else:
        pytest.fail("nobody was ever refused")

    assert 5 < number < 200
    assert made._predictions.tpot_bound == pytest.approx(PROMISE.tpot_s / seen_s, rel=0.2)


def test_prediction_looks_at_the_batch_while_a_decode_lasts_though_the_shortest_queue_is_empty() -> None:
    """Seven prefills end at another worker within seconds, and will decode beside it."""

    def takes(mode: str) -> bool:
        made = conductor(
            mode,
            worker_report("p", Role.PREFILL),
            worker_report("q", Role.PREFILL),
            worker_report("d", Role.DECODE, seats=64, blocks_free=90_000),
        )
        for number in range(9):
            busy = replace(ask(f"{number}", tokens=1000), excluded=frozenset({WorkerId("q")}))
            assert taken(made, patient(busy))
        return taken(made, replace(ask("x", tokens=1000), ttft_slo_s=90.0, tpot_slo_s=0.0155))

    assert takes("early")
    assert not takes("predictive")


def test_prediction_looks_at_the_decodes_when_the_shortest_queue_is_through() -> None:
    """At the other one most would have ended by then."""
    made = conductor(
        "predictive",
        worker_report("p", Role.PREFILL, queued=9000, waiting=1),
        worker_report("q", Role.PREFILL),
        worker_report("d", Role.DECODE, running=20, kv_tokens=20_000, seats=64, blocks_free=90_000),
    )

    assert not taken(made, replace(ask(tokens=1000), ttft_slo_s=90.0, tpot_slo_s=0.03))


def test_a_tenant_has_had_its_decodes_too() -> None:
    made = pools("early")
    for tenant, most in (("a", 2000), ("b", 1)):
        assert taken(made, replace(ask(tenant, tokens=100, most=most), tenant=tenant))

    assert made._judge._shares.excess("a", now=0) > 1.2


def test_what_was_seen_at_the_last_look_is_what_is_compared_with_what_happened() -> None:
    made = pools("early")
    assert taken(made, ask("x", tokens=1000))
    full(made, running=5, kv_tokens=5_000)
    assert made.decode_begins(RequestId("x"), now=0) is None
    made.outcome(RequestId("x"), Outcome.FINISHED, now=0, measured=Measured(0.7, step_s(CPU, 6, 6_000)))

    assert made.snapshot().accuracy.tpot.ratio == pytest.approx(1.0, abs=0.01)


def test_where_first_tokens_come_later_than_predicted_more_decodes_will_have_ended_by_then() -> None:
    def takes(slower: float) -> bool:
        made = pools("predictive", queued=4500)
        first = made.place(patient(ask("0", tokens=1000)), now=0)
        assert isinstance(first, Placement)
        for number in range(100):
            assert taken(made, patient(ask(f"{number}", tokens=1000)))
            measured = Measured(slower * first.predicted_ttft_s, None)
            made.outcome(RequestId(f"{number}"), Outcome.FINISHED, now=0, measured=measured)
        full(made, running=20, kv_tokens=20_000)
        return taken(made, replace(ask("x", tokens=100), ttft_slo_s=900.0, tpot_slo_s=step_s(CPU, 10, 9_100)))

    assert not takes(1.0)
    assert takes(3.0)


# -- what was measured ------------------------------------------------------------------------------------------------


def test_predictions_are_kept_beside_what_happened_and_correct_what_admission_reckons_with() -> None:
    made = pools("early")
    first = made.place(ask("0", tokens=1000), now=0)
    assert isinstance(first, Placement)
    raw_s = first.predicted_ttft_s
    for number in range(100):
        made.place(ask(f"{number}", tokens=1000), now=0)
        made.outcome(RequestId(f"{number}"), Outcome.FINISHED, now=0, measured=Measured(3 * raw_s, 0.02))

    accuracy = made.snapshot().accuracy.ttft
    assert accuracy.count == 100
    assert accuracy.ratio == pytest.approx(3.0)
    assert accuracy.error == pytest.approx(2.0)
    hurried = replace(ask("x", tokens=1000), ttft_slo_s=1.5 * raw_s)
    answer = made.place(hurried, now=0)
    assert isinstance(answer, Rejection)
    assert f"predicted in {told(2.4 * raw_s, 2)}"[:-2] in answer.reason
    assert answer.predicted_ttft_s == pytest.approx(2.4 * raw_s, rel=0.02)
    assert taken(pools("early"), hurried)


# -- priorities and tenants -------------------------------------------------------------------------------------------


def test_batch_leaves_room_for_interactive_requests_but_not_for_ever() -> None:
    made = pools("early", queued=1000)  # load 0.81, 0.34 of it its own work
    batch = replace(ask(tokens=1000), priority=BATCH)

    refused = made.place(batch, now=0)
    assert isinstance(refused, Rejection)
    assert refused.reason == (
        "first token predicted in 1.61 s, promised within 2 s, and batch requests are taken up to 1.58 s"
    )
    assert taken(made, ask(tokens=1000))
    assert taken(pools("early", queued=9000), replace(batch, waited_s=BATCH_PATIENCE_S))


@pytest.mark.parametrize("mode", ["baseline", "early", "predictive"])
def test_an_idle_cluster_refuses_nobody_who_would_be_in_time(mode: str) -> None:
    """Its own work alone takes nine tenths of what was promised; there is nobody to leave room for."""
    for who in (replace(ask(tokens=1000), priority=BATCH), replace(ask(tokens=1000), tenant="greedy")):
        alone_s = pools(mode).place(who, now=0)
        assert isinstance(alone_s, Placement)
        made, hurried = pools(mode), replace(who, ttft_slo_s=alone_s.predicted_ttft_s / 0.9)
        made._judge._shares.had("greedy", 50.0, now=0)
        made._judge._shares.had("modest", 1.0, now=0)
        assert taken(made, hurried)
        made.outcome(hurried.request, Outcome.CANCELLED, now=0)
        busy = worker_report(
            "p", Role.PREFILL, sequence=2, queued=int(1500 * 0.04 * alone_s.predicted_ttft_s), waiting=1
        )
        made.worker_reported(busy, now=0)
        assert not taken(made, hurried)
        assert taken(made, replace(hurried, priority=Priority.INTERACTIVE, tenant="modest"))


@given(st.floats(0, 2), st.floats(0, 2), st.floats(FAIR_LOAD, 1))
def test_a_limit_is_of_what_a_requests_own_work_leaves(alone: float, others: float, most: float) -> None:
    found = Loads(alone + others, 0.0, prefill_alone=alone)

    room = QUEUE_LOAD * most
    assert room <= found.prefill_limit(most) <= 1.0
    assert (found.prefill <= found.prefill_limit(most)) == (others <= max(0.0, room * (1.0 - alone))) or others < 1e-9
    assert Loads(0.0, 0.0, decode_alone=alone).decode_limit(room) == found.prefill_limit(most)


def test_a_tenant_that_has_had_more_than_its_share_waits_while_it_is_full() -> None:
    made = pools("early")
    for number in range(4):
        assert taken(made, replace(ask(f"g{number}", tokens=500), tenant="greedy"))
        made.outcome(RequestId(f"g{number}"), Outcome.FINISHED, now=0)
    assert taken(made, replace(ask("m", tokens=50), tenant="modest"))
    made.outcome(RequestId("m"), Outcome.FINISHED, now=0)
    made.worker_reported(worker_report("p", Role.PREFILL, sequence=2, queued=1150, waiting=1), now=0)

    refused = made.place(replace(ask("g", tokens=1000), tenant="greedy"), now=0)
    assert isinstance(refused, Rejection)
    assert "promised within 2 s, and tenants over their share are taken up to 1." in refused.reason
    assert taken(made, replace(ask("m", tokens=1000), tenant="modest"))


loads = st.one_of(st.floats(0, 5), st.just(inf))


@given(st.sampled_from(list(Admission)), loads, loads, st.floats(0, 2), st.floats(0, 2), st.floats(0, 90))
def test_admission_is_monotone_in_load(
    mode: Admission, prefill: float, decode: float, more: float, higher: float, ttft_s: float
) -> None:
    """Who is refused at a load is refused at a greater one, and at a tighter limit."""

    def no(loads: Loads, most: float, ttft_s: float) -> bool:
        return refused(mode, loads, most, ttft_s=ttft_s, queue_s=30.0) is not None

    if no(Loads(prefill, decode), 1.0, ttft_s):
        assert no(Loads(prefill + more, decode + more), 1.0, ttft_s + more)
        assert no(Loads(prefill, decode), 1.0 / (1.0 + higher), ttft_s)


@given(st.floats(0, 1e6), st.sampled_from(Priority), st.floats(0, 1e4))
def test_limits_are_bounded(excess: float, priority: Priority, waited_s: float) -> None:
    asked = replace(ask(tokens=10), priority=priority, waited_s=waited_s)
    if priority is BATCH and waited_s >= BATCH_PATIENCE_S:
        assert limit(asked, excess) == inf
    else:
        assert FAIR_LOAD <= limit(asked, excess) <= (BATCH_LOAD if priority is BATCH else 1.0)


@settings(max_examples=30)
@given(st.integers(0, 12_000), st.integers(0, 8_000), st.sampled_from(["baseline", "early", "predictive"]))
def test_a_longer_queue_never_lets_in_who_was_refused(queued: int, more: int, mode: str) -> None:
    if not taken(pools(mode, queued=queued), ask(tokens=1000)):
        assert not taken(pools(mode, queued=queued + more), ask(tokens=1000))


@settings(max_examples=30)
@given(st.integers(0, 60), st.integers(0, 30), st.sampled_from(["early", "predictive"]))
def test_a_larger_batch_never_lets_in_who_was_refused(running: int, more: int, mode: str) -> None:
    if not taken(pools(mode, running=running), ask(tokens=1000)):
        assert not taken(pools(mode, running=running + more), ask(tokens=1000))


@settings(max_examples=30)
@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from(["early", "predictive"]))
def test_more_promises_never_let_in_who_was_refused(promised: int, more: int, mode: str) -> None:
    """Of the conductor's own, which nobody has reported yet."""

    def accepts(promised: int) -> bool:
        made = pools(mode)
        for number in range(promised):
            assert taken(made, replace(ask(f"{number}", tokens=300), resumed=True))
            if number % 2:
                made.outcome(RequestId(f"{number}"), Outcome.HANDED_OVER, now=0)
        return taken(made, ask(tokens=1000))

    if not accepts(promised):
        assert not accepts(promised + more)


@settings(max_examples=50)
@given(st.integers(0, 90_000), st.integers(0, 64), st.sampled_from(MODES), st.floats(0, 1e4), st.floats(0, 1e4))
def test_batch_never_starves_beyond_its_bound(
    queued: int, running: int, mode: str, waited_s: float, excess_s: float
) -> None:
    """Whatever the load, and whatever its tenant has had."""
    made = pools(mode, queued=queued, running=running)
    made._judge._shares.had("t", excess_s, now=0)
    made._judge._shares.had("u", 1.0, now=0)
    asked = replace(ask(tokens=1000), priority=BATCH, tenant="t", waited_s=BATCH_PATIENCE_S + waited_s)

    assert taken(made, asked)


@settings(max_examples=20, deadline=None)
@given(st.integers(9_000, 90_000), st.sampled_from(["queue", "early", "predictive"]), st.floats(5.0, 50.0))
def test_batch_does_not_starve_either_where_its_clients_come_back_instead_of_waiting(
    queued: int, mode: str, pause_s: float
) -> None:
    """Under a load that never ends, the next one after ``BATCH_PATIENCE_S`` of refusals is taken, and only that one."""
    made, now, taken_s, sequence = pools(mode, queued=queued), 0.0, [], 1
    while now < 4 * BATCH_PATIENCE_S + 2 * pause_s:
        sequence += 1
        busy = worker_report("p", Role.PREFILL, sequence=sequence, queued=queued, waiting=1)
        made.worker_reported(busy, now=now)
        idle = worker_report("d", Role.DECODE, sequence=sequence, seats=64, blocks_free=90_000)
        made.worker_reported(idle, now=now)
        made.store_reported(store_report(sequence=sequence), now=now)
        assert not taken(made, ask(f"i{sequence}", tokens=1000), now=now)
        if taken(made, replace(ask(f"b{sequence}", tokens=1000), priority=BATCH), now=now):
            taken_s.append(now)
            made.outcome(RequestId(f"b{sequence}"), Outcome.CANCELLED, now=now)
        now += pause_s
    gaps = [later - earlier for earlier, later in zip([0.0, *taken_s], taken_s, strict=False)]

    assert len(taken_s) >= 3
    assert all(BATCH_PATIENCE_S <= gap <= BATCH_PATIENCE_S + 2 * pause_s + 1e-6 for gap in gaps)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0.01, 100), st.floats(0, 200)), max_size=30))
def test_shares_are_of_all_that_was_had_and_half_as_much_counts_after_a_half_life(
    story: list[tuple[str, float, float]],
) -> None:
    shares, now = Shares(), 0.0
    for tenant, work_s, later_s in story:
        now += later_s
        shares.had(tenant, work_s, now=now)
        known = {tenant: shares.excess(tenant, now=now) for tenant in "abcd"}
        assert all(0.0 <= excess <= 5.0 for excess in known.values())
        had = [excess for excess in known.values() if excess > 0.0]
        if len(had) > 1:
            assert sum(had) == pytest.approx(len(had))
    assert Shares().excess("a", now=0.0) == 1.0


def test_what_a_tenant_had_counts_half_after_a_half_life() -> None:
    shares = Shares()
    shares.had("early", 4.0, now=0.0)
    shares.had("late", 2.0, now=HALF_LIFE_S)

    assert shares.excess("early", now=HALF_LIFE_S) == pytest.approx(1.0)
    shares.had("late", 2.0, now=2.0 * HALF_LIFE_S)
    assert shares.excess("late", now=2.0 * HALF_LIFE_S) == pytest.approx(2.0 * 3.0 / 4.0)


def test_under_overload_tenants_get_even_shares_though_they_ask_unevenly() -> None:
    """One asks ten times as often as each of the other two; seconds of simulated work, one prefill worker."""
    made, served = pools("early"), {"a": 0, "b": 0, "c": 0}
    queue_s, number, sequence = 0.0, 0, 1
    for moment in range(500):
        now = 0.25 * moment
        queue_s = max(0.0, queue_s - 0.25)
        sequence += 1
        tokens = round(1500 * queue_s)
        report = worker_report("p", Role.PREFILL, sequence=sequence, queued=tokens, waiting=1 if tokens else 0)
        made.worker_reported(report, now=now)
        made.worker_reported(worker_report("d", Role.DECODE, sequence=sequence, seats=64, blocks_free=90_000), now=now)
        made.store_reported(store_report(sequence=sequence), now=now)
        for tenant in ("a", "a", "a", "a", "a", "b", "c"):
            number += 1
            name = f"{number}"
            if (tenant == "a" or moment % 2 == 0) and taken(
                made, replace(ask(name, tokens=400), tenant=tenant), now=now
            ):
                served[tenant] += 1
                queue_s += 0.27
                made.outcome(RequestId(name), Outcome.CANCELLED, now=now)  # the reports tell the rest
    total = sum(served.values())

    assert all(0.22 <= count / total <= 0.45 for count in served.values()), served
