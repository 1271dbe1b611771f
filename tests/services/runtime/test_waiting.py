"""When ``moonpool up`` says what it waits for."""

from services.runtime.waiting import AGAIN_S, SOON_S, Waiting, listed


def test_nothing_is_said_of_what_is_ready_soon() -> None:
    waiting = Waiting(since=100.0)
    assert waiting.look(["decode-0"], now=100.0 + SOON_S - 0.01) is None
    assert waiting.look([], now=200.0) is None


def test_it_is_said_at_once_and_when_somebody_is_ready_and_when_it_lasts() -> None:
    waiting = Waiting(since=100.0)
    assert waiting.look(["prefill-0", "decode-0"], now=101.2) == "waiting for prefill-0 and decode-0, 1 s so far"
    assert waiting.look(["prefill-0", "decode-0"], now=101.3) is None
    assert waiting.look(["decode-0"], now=102.0) == "waiting for decode-0, 2 s so far"
    assert waiting.look(["decode-0"], now=102.0 + AGAIN_S - 0.1) is None
    assert waiting.look(["decode-0"], now=102.0 + AGAIN_S) == "waiting for decode-0, 7 s so far"


def test_names_are_listed_as_people_do() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
