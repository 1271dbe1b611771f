"""Virtual time."""

import pytest

from loadtest.simulator.events import Events


def test_events_happen_in_the_order_of_their_times_and_ties_in_the_order_of_planning() -> None:
    events, seen = Events(), list[str]()
    for at_s, name in [(2.0, "c"), (1.0, "a"), (2.0, "d"), (1.0, "b")]:
        events.at(at_s, lambda name=name: seen.append(f"{name} at {events.now}"))  # type: ignore[misc]

    events.run()

    assert seen == ["a at 1.0", "b at 1.0", "c at 2.0", "d at 2.0"]


def test_an_event_may_plan_another_for_the_same_moment() -> None:
    events, seen = Events(), list[float]()
    events.at(1.0, lambda: events.after(0.0, lambda: seen.append(events.now)))

    events.run()

    assert seen == [1.0]


def test_what_is_cancelled_does_not_happen_and_takes_no_time() -> None:
    events, seen = Events(), list[float]()
    events.at(5.0, lambda: seen.append(5.0)).cancel()
    events.at(1.0, lambda: seen.append(1.0))

    events.run()

    assert seen == [1.0]
    assert events.now == 1.0


def test_nothing_is_planned_for_the_past() -> None:
    events = Events()
    events.at(2.0, lambda: events.at(1.0, lambda: None))

    with pytest.raises(AssertionError, match="in the past"):
        events.run()


def test_what_comes_from_outside_comes_before_all_else_of_its_moment() -> None:
    events, seen = Events(), list[str]()
    events.at(1.0, lambda: seen.append("planned first"))
    events.at(1.0, lambda: seen.append("from outside"), early=True)
    events.at(1.0, lambda: seen.append("from outside, too"), early=True)

    events.run()

    assert seen == ["from outside", "from outside, too", "planned first"]
