"""When a dead child is started again."""

import signal

import pytest

from services.runtime.backoff import LONG_LIFE_S, STILLBORN, Backoff, GiveUp, Restart

KILLED = -signal.SIGKILL


def pauses(backoff: Backoff, deaths: int) -> list[float]:
    made = [backoff.ended(KILLED, lived_s=1.0, ready=True) for _ in range(deaths)]
    return [each.after_s for each in made if isinstance(each, Restart)]


def test_the_first_restart_is_at_once_and_the_pause_then_doubles_to_ten_seconds() -> None:
    assert pauses(Backoff(), 9) == [0, 0.5, 1, 2, 4, 8, 10, 10, 10]


def test_a_long_life_wipes_the_slate() -> None:
    backoff = Backoff()
    pauses(backoff, 5)
    assert backoff.ended(KILLED, lived_s=LONG_LIFE_S) == Restart(0.0)
    assert backoff.ended(KILLED, lived_s=1.0) == Restart(0.5)


def test_a_refusal_is_believed_the_third_time_in_a_row() -> None:
    backoff = Backoff()
    assert isinstance(backoff.ended(78, lived_s=1.0), Restart)
    assert isinstance(backoff.ended(78, lived_s=1.0), Restart)
    assert isinstance(backoff.ended(78, lived_s=1.0), GiveUp)


def test_refusals_with_another_death_between_are_not_in_a_row() -> None:
    backoff = Backoff()
    ends = [backoff.ended(status, lived_s=1.0) for status in (78, 78, 1, 78)]
    assert all(isinstance(each, Restart) for each in ends)


def test_flags_that_are_not_understood_are_believed_at_once() -> None:
    assert isinstance(Backoff().ended(2, lived_s=0.1), GiveUp)


def test_who_was_ready_once_is_never_given_up_for_crashing() -> None:
    backoff = Backoff()
    assert backoff.ended(1, lived_s=0.1, ready=True) == Restart(0.0)
    assert all(isinstance(backoff.ended(1, lived_s=0.1), Restart) for _ in range(100))


@pytest.mark.parametrize("status", [0, 1, 2, 78, 137, KILLED, -signal.SIGSEGV, None])
def test_who_was_ready_once_is_started_for_ever_whatever_it_ends_with(status: int | None) -> None:
    backoff = Backoff()
    backoff.ended(0, lived_s=1.0, ready=True)
    ends = [backoff.ended(status, lived_s=1.0) for _ in range(100)]
    assert ends[-1] == Restart(10.0)
    assert all(isinstance(each, Restart) for each in ends)


def test_who_could_never_be_started_is_given_up() -> None:
    backoff = Backoff()
    ends = [backoff.ended(None, lived_s=0.0, last_words="no memory") for _ in range(STILLBORN)]
    assert ends[-1] == GiveUp("was never ready: it has ended 5 times, the last time with not even a start: no memory")
    assert all(isinstance(each, Restart) for each in ends[:-1])


def test_who_was_never_ready_is_given_up_with_its_last_words() -> None:
    backoff = Backoff()
    assert all(isinstance(backoff.ended(1, lived_s=60.0), Restart) for _ in range(STILLBORN - 1))
    assert backoff.ended(-signal.SIGILL, lived_s=0.1, last_words="out of luck") == GiveUp(
        "was never ready: it has ended 5 times, the last time with SIGILL: out of luck"
    )


def test_a_refusal_is_given_with_its_own_sentence_where_there_is_one() -> None:
    given_up = Backoff().ended(2, lived_s=0.1, last_words="no such flag")
    assert given_up == GiveUp("is refused as it is configured (exit status 2): no such flag")
    silent = Backoff().ended(2, lived_s=0.1)
    assert silent == GiveUp("is refused as it is configured (exit status 2); its own line above says why")
