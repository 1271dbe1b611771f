"""What a conductor predicts, what it learns from outcomes, and what it shows."""

import pytest

from kvstore.vocabulary import IdentityMismatch
from scheduler import estimate
from scheduler.conductor import Conductor
from scheduler.vocabulary import Outcome, Placement, RejectionCode, RequestId
from tests.scheduler.build import CPU, OTHER, ask, worker_report
from tests.scheduler.placing import P, conductor, placed, refused

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
