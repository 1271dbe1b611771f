"""When a dead child is started again."""

import signal

from services.runtime.backoff import LONG_LIFE_S, Backoff, GiveUp, Restart

KILLED = -signal.SIGKILL


def pauses(backoff: Backoff, deaths: int) -> list[float]:
    made = [backoff.ended(KILLED, lived_s=1.0) for _ in range(deaths)]
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
    assert all(isinstance(backoff.ended(status, lived_s=1.0), Restart) for status in (78, 78, 1, 78, 78))


def test_flags_that_are_not_understood_are_believed_at_once() -> None:
    assert isinstance(Backoff().ended(2, lived_s=0.1), GiveUp)


def test_a_crash_is_never_given_up() -> None:
    assert len(pauses(Backoff(), 100)) == 100
