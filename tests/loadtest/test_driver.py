"""When requests are sent, in virtual time: exactly when they are planned, whatever becomes of those before."""

import asyncio
from dataclasses import dataclass, field

import pytest

from loadtest.client.answer import Answer
from loadtest.driver import Driver, Now, Pace
from loadtest.record import Outcome, Record
from loadtest.request import Request, Span
from tests.loadtest import virtual

FINISH = b'data: {"choices": [{"text": "a", "finish_reason": "length"}]}\n\ndata: [DONE]\n\n'


@dataclass
class Fake:
    """Answers after so many seconds by place, 1 unless told; finishes, or refuses."""

    takes_s: dict[int, float] = field(default_factory=dict)
    refuses: frozenset[int] = frozenset()
    prepared: list[tuple[int, float]] = field(default_factory=list)
    heard_of: list[int] = field(default_factory=list)

    def prepare(self, request: Request) -> bytes:
        place = request.prompt[0].content
        self.prepared.append((place, asyncio.get_running_loop().time()))
        return bytes([place])

    async def ask(self, body: bytes, answer: Answer, now: Now) -> None:
        answer.sent(now=now())
        answer.head(429 if body[0] in self.refuses else 200, {})
        await asyncio.sleep(self.takes_s.get(body[0], 1.0))
        answer.feed(FINISH, now=now())
        if not answer.enough:
            answer.ended(now=now())

    def heard(self, request: Request, answer: Answer) -> None:
        self.heard_of.append(request.prompt[0].content)


def asked(*at_s: float, after: dict[int, int] | None = None) -> list[Request]:
    return [
        Request(each, (Span(place, 10),), Span(100 + place, 4), (after or {}).get(place))
        for place, each in enumerate(at_s)
    ]


def driven(
    requests: list[Request], target: Fake, pace: Pace | None = None, *, stop_s: float | None = None
) -> list[Record]:
    async def main() -> list[Record]:
        found: list[Record] = []
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        if stop_s is not None:
            loop.call_later(stop_s, stop.set)
        await Driver(target, pace or Pace(), now=loop.time, over=found.append, stop=stop).run(requests)
        assert len(asyncio.all_tasks()) == 1, "a task is left"
        return sorted(found, key=lambda record: record.place)

    return virtual.run(main())


def sent(records: list[Record]) -> list[float]:
    return [record.sent_s for record in records]


def test_arrivals_never_wait_for_answers() -> None:
    target = Fake(takes_s={0: 1000.0})
    found = driven(asked(0.0, 0.25, 0.5, 64.0), target)

    assert sent(found) == [0.0, 0.25, 0.5, 64.0]
    assert [record.lag_s for record in found] == [0.0] * 4
    assert [record.ended_s for record in found] == [1000.0, 1.25, 1.5, 65.0]


def test_a_prompt_is_made_before_its_time_has_come() -> None:
    target = Fake()
    driven(asked(1.0, 8.0), target)

    assert target.prepared == [(0, 0.0), (1, 1.0)]


def test_who_follows_another_comes_after_its_end() -> None:
    target = Fake(takes_s={0: 4.0})
    found = driven(asked(1.0, 2.0, 0.5, after={1: 0, 2: 1}), target)

    assert sent(found) == [1.0, 7.0, 8.5]  # 1 + 4 + 2, and 1 + 0.5 after that
    assert [record.planned_s for record in found] == [1.0, 7.0, 8.5]
    assert target.heard_of == [0, 1, 2]


def test_who_follows_a_refused_request_never_comes() -> None:
    found = driven(asked(0.0, 1.0, after={1: 0}), Fake(refuses=frozenset({0})))

    assert [(record.place, record.outcome) for record in found] == [(0, Outcome.REFUSED)]


def test_with_seats_one_is_sent_when_another_is_over_and_its_plan_begins_there() -> None:
    target = Fake(takes_s={0: 4.0, 1: 2.0, 2: 8.0, 3: 1.0})
    found = driven(asked(0.0, 0.0, 0.0, 0.0), target, Pace(max_concurrency=2))

    assert sent(found) == [0.0, 0.0, 2.0, 4.0]
    assert [record.lag_s for record in found] == [0.0] * 4


def test_two_seats_that_are_free_at_once_are_no_lag_of_the_harness() -> None:
    target = Fake(takes_s={0: 4.0, 1: 4.0})
    found = driven(asked(0.0, 0.0, 1.0, 2.0), target, Pace(max_concurrency=2))

    assert sent(found) == [0.0, 0.0, 4.0, 4.0]
    assert [record.lag_s for record in found] == [0.0] * 4


def test_how_long_one_waited_for_a_seat_is_told() -> None:
    target = Fake(takes_s={0: 4.0})
    found = driven(asked(0.0, 1.0, 3.0, 0.5, 64.0, after={3: 2}), target, Pace(max_concurrency=1))

    assert [record.queued_s for record in found] == [0.0, 3.0, 2.0, 0.0, 0.0]
    assert sent(found) == [0.0, 4.0, 5.0, 6.5, 64.0]


def test_seats_are_for_those_that_follow_too() -> None:
    found = driven(asked(0.0, 0.0, 0.0, after={2: 0}), Fake(), Pace(max_concurrency=1))

    assert sent(found) == [0.0, 1.0, 2.0]


def test_after_its_duration_nothing_is_sent_and_what_is_open_is_waited_for() -> None:
    target = Fake(takes_s={1: 32.0})
    found = driven(asked(0.0, 1.5, 2.0, 3.0, 0.5, after={4: 0}), target, Pace(duration_s=2.0))

    assert [(record.place, record.sent_s, record.ended_s) for record in found] == [
        (0, 0.0, 1.0), (1, 1.5, 33.5), (4, 1.5, 2.5)
    ]  # fmt: skip


def test_who_waits_for_a_seat_until_the_end_is_not_sent() -> None:
    found = driven(asked(0.0, 0.0), Fake(takes_s={0: 8.0}), Pace(max_concurrency=1, duration_s=4.0))

    assert sent(found) == [0.0]


def test_stopped_it_leaves_what_is_open_and_keeps_what_was() -> None:
    target = Fake(takes_s={1: 1000.0})
    found = driven(asked(0.0, 0.5, 500.0, 9.0, after={3: 0}), target, stop_s=2.0)

    assert [(record.place, record.outcome, record.ended_s) for record in found] == [
        (0, Outcome.FINISHED, 1.0),
        (1, Outcome.CANCELLED, 2.0),
    ]
    assert found[1].cause == "interrupted"


def test_a_bug_in_a_target_is_told() -> None:
    class Broken(Fake):
        async def ask(self, body: bytes, answer: Answer, now: Now) -> None:
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as told:
        driven(asked(0.0), Broken())
    assert told.group_contains(ZeroDivisionError)
