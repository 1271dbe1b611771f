"""When a story goes on in the face of failure, and what its client is told when it does not."""

from dataclasses import replace

import pytest

from scheduler.vocabulary import Rejection, RejectionCode, RequestId, WorkerId
from services.gateway.errors import ApiError
from services.gateway.patience import LONGEST_BATCH_PAUSE_S, LONGEST_PAUSE_S, Patience, Troubles
from services.wire.errors import (
    DeadlinePassed,
    PeerBusy,
    PeerDiffers,
    PeerError,
    PeerFailed,
    PeerRefused,
    PeerUnavailable,
    PeerUnusable,
)

PATIENCE = Patience(attempts=3, waiting_s=2.0, resuming_s=10.0)
NOBODY = Rejection(RequestId("r"), RejectionCode.UNAVAILABLE, "No worker lives.", 1.5)
LATE = Rejection(RequestId("r"), RejectionCode.UNATTAINABLE, "Its first token would be late.", 3.5)
OVERLOADED = Rejection(RequestId("r"), RejectionCode.OVERLOADED, "Every worker is full.", 0.7)
D = WorkerId("d")


def failed(
    troubles: Troubles,
    trouble: PeerError,
    *,
    taken: bool = False,
    begun: bool = False,
    late: bool = False,
    now: float = 0.0,
) -> None:
    troubles.failed(D, trouble, taken=taken, begun=begun, late=late, now=now)


def test_a_worker_that_failed_is_not_asked_again() -> None:
    troubles = Troubles(PATIENCE)
    failed(troubles, PeerUnavailable("gone"))
    assert troubles.excluded == {D}


def test_once_nobody_else_is_there_everybody_may_be_asked_again() -> None:
    troubles = Troubles(PATIENCE)
    failed(troubles, PeerUnavailable("gone"))
    troubles.rejected(NOBODY, begun=False, now=0.1)
    assert troubles.excluded == frozenset()


def test_pauses_grow_and_stay_short() -> None:
    troubles = Troubles(PATIENCE)
    pauses = [troubles.rejected(NOBODY, begun=True, now=0.0) for _ in range(8)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S


@pytest.mark.parametrize(("begun", "patience_s"), [(False, 2.0), (True, 10.0)])
def test_nobody_being_there_is_waited_out_longer_once_a_stream_has_begun(begun: bool, patience_s: float) -> None:
    troubles = Troubles(PATIENCE)
    troubles.rejected(NOBODY, begun=begun, now=100.0)
    troubles.rejected(NOBODY, begun=begun, now=100.0 + patience_s - 0.01)
    with pytest.raises(ApiError) as told:
        troubles.rejected(NOBODY, begun=begun, now=100.0 + patience_s)
    assert (told.value.status, told.value.message, told.value.retry_after_s) == (503, "No worker lives.", 1.5)


def test_a_new_request_is_told_at_once_that_everybody_is_full() -> None:
    with pytest.raises(ApiError) as told:
        Troubles(PATIENCE).rejected(OVERLOADED, begun=False, now=0.0)
    assert (told.value.status, told.value.code, told.value.retry_after_s) == (429, "rate_limit_exceeded", 0.7)


def test_a_new_request_is_told_at_once_that_it_would_be_later_than_promised() -> None:
    with pytest.raises(ApiError) as told:
        Troubles(PATIENCE).rejected(LATE, begun=False, now=0.0)
    assert (told.value.status, told.value.code, told.value.retry_after_s) == (429, "slo_unattainable", 3.5)


@pytest.mark.parametrize("no", [LATE, OVERLOADED, NOBODY])
def test_a_batch_request_may_wait_for_room_and_asks_when_it_is_told_to(no: Rejection) -> None:
    troubles = Troubles(replace(PATIENCE, batch_s=130.0), batch=True)
    assert troubles.rejected(no, begun=False, now=100.0) == no.retry_after_s
    assert troubles.rejected(replace(no, retry_after_s=60.0), begun=False, now=229.0) == LONGEST_BATCH_PAUSE_S
    with pytest.raises(ApiError) as told:
        troubles.rejected(no, begun=False, now=230.0)
    assert told.value.status == (503 if no is NOBODY else 429)


@pytest.mark.parametrize("batch", [False, True])
def test_whoever_is_not_batch_does_not_nor_batch_unless_it_may(batch: bool) -> None:
    with pytest.raises(ApiError) as told:
        Troubles(replace(PATIENCE, batch_s=0.0 if batch else 130.0), batch=batch).rejected(LATE, begun=False, now=0.0)
    assert told.value.code == "slo_unattainable"


def test_a_batch_request_waits_for_somebody_to_be_there_no_shorter_than_others() -> None:
    troubles = Troubles(replace(PATIENCE, batch_s=0.5), batch=True)
    troubles.rejected(NOBODY, begun=False, now=0.0)
    troubles.rejected(NOBODY, begun=False, now=1.9)


def test_a_stream_that_has_begun_waits_for_room() -> None:
    assert Troubles(PATIENCE).rejected(OVERLOADED, begun=True, now=0.0) > 0


def test_when_the_only_worker_was_full_the_client_hears_that_and_not_that_nobody_is_there() -> None:
    troubles = Troubles(PATIENCE)
    failed(troubles, PeerBusy("the queue is full"))
    with pytest.raises(ApiError) as told:
        troubles.rejected(NOBODY, begun=False, now=0.0)
    assert (told.value.status, told.value.message) == (429, "The queue is full.")


def test_what_kills_every_worker_that_takes_it_is_given_up() -> None:
    troubles = Troubles(PATIENCE)
    failed(troubles, PeerFailed("crashed"), taken=True, begun=True)
    failed(troubles, PeerFailed("crashed"), taken=True, begun=True)
    with pytest.raises(ApiError) as told:
        failed(troubles, PeerFailed("crashed"), taken=True, begun=True)
    assert told.value.status == 503
    assert told.value.message == "The request failed 3 times, the last on d: crashed."


def test_workers_that_cannot_be_reached_do_not_count_as_attempts() -> None:
    troubles = Troubles(PATIENCE)
    for _ in range(20):
        failed(troubles, PeerUnavailable("no connection"), begun=True)


def test_tokens_settle_what_was_before_them() -> None:
    troubles = Troubles(PATIENCE)
    for _ in range(5):
        failed(troubles, PeerFailed("crashed"), taken=True, begun=True)
        troubles.over()


def test_how_long_troubles_last_is_counted_from_the_first_of_them() -> None:
    troubles = Troubles(PATIENCE)
    assert troubles.last_s(now=5.0) == 0.0
    troubles.rejected(NOBODY, begun=False, now=5.0)
    troubles.rejected(NOBODY, begun=False, now=6.0)
    assert troubles.last_s(now=6.5) == 1.5
    troubles.over()
    assert troubles.last_s(now=7.0) == 0.0


def test_a_refusal_is_the_request_s_own_fault() -> None:
    with pytest.raises(ApiError) as told:
        failed(Troubles(PATIENCE), PeerRefused("it never fits"))
    assert (told.value.status, told.value.message) == (400, "It never fits.")


@pytest.mark.parametrize("trouble", [PeerUnusable("it is another server"), PeerDiffers("other weights")])
def test_what_is_wrong_with_a_worker_is_not_the_request_s_fault(trouble: PeerError) -> None:
    troubles = Troubles(PATIENCE)
    for _ in range(20):
        failed(troubles, trouble)
    assert troubles.excluded == {D}


def test_who_is_told_that_nobody_can_do_it_hears_what_was_wrong_with_the_last_one() -> None:
    troubles = Troubles(PATIENCE)
    failed(troubles, PeerUnusable("its certificate has expired"), now=0.0)
    with pytest.raises(ApiError) as told:
        troubles.rejected(NOBODY, begun=False, now=2.0)
    assert (told.value.status, told.value.retry_after_s) == (503, 1.5)
    assert told.value.message == "No worker lives; the last to fail was d: its certificate has expired."


def test_a_deadline_is_a_deadline() -> None:
    with pytest.raises(TimeoutError):
        failed(Troubles(PATIENCE), DeadlinePassed("too late"), late=True)


def test_a_worker_that_says_that_time_is_up_before_it_is_is_passed_over() -> None:
    troubles = Troubles(PATIENCE)
    failed(troubles, DeadlinePassed("nobody took the handoff in time"))
    assert troubles.excluded == {D}
