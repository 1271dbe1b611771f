"""Who waits for a seat on one worker, and whose turn it is.

    begun      streams with tokens out: set back, or promised and come from elsewhere    by arrival
    in time    have slack: deadline - now - their own prefill; all without a promise     by deadline
    overdue    admitted, and late: they have slack until ``MOST_LATE``, a later deadline  by that, among those in time
    late       have none left: their first token can't be in time any more               by arrival

Interactive ones before batch ones, but for those that have begun. With no promises, or the same for all and all in
time, that is the order of arrival; deadlines that are nearly the same (``NEARLY_S``) are the same. Nobody is passed
over for ever: see ``Oldest``.

Without admission a late sequence is one of many, and serving it makes others late. Where requests are refused so that
those admitted are in time, few are late, and by little; one that all later ones overtake would wait until none come.

By deadline, and not by least slack: that lets a long prompt, which has little slack by its length alone, push short
ones to the edge until all of them are late together (docs/scheduling.md has the figures).
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from math import inf
from typing import TypeVar

from scheduler.sequence import Running
from scheduler.vocabulary import Priority, Profile

T = TypeVar("T", bound=tuple[int, Running] | tuple[float, int, Running])

MOST_PASSED = 8
"""So often others may go before who has waited longest. One turn in nine is his, so whoever has n older ones before
it waits for 9 (n + 1) turns at most; and a ninth of the work is all that those who are late anyway can take from
those who are not. By turns and not by seconds: where everybody has waited for long, seconds would make the order
that of arrival, and everybody late."""


class Oldest:
    """Counts how often whoever has waited longest was passed over."""

    __slots__ = ("_passed", "_who")

    def __init__(self) -> None:
        self._who: Running | None = None
        self._passed = 0

    def must(self, oldest: Running) -> bool:
        """It is its turn now, whoever else is urgent."""
        return oldest is self._who and self._passed >= MOST_PASSED

    def passed(self, oldest: Running) -> None:
        """Others had this turn."""
        self._passed = self._passed + 1 if oldest is self._who else 1
        self._who = oldest

    def had_its_turn(self) -> None:
        self._who = None


class Queue:
    """See the module. Every line is sorted; the numbers in them are arrivals, of which no two are the same."""

    def __init__(self) -> None:
        self._all: list[tuple[int, Running]] = []
        self._begun: list[tuple[int, Running]] = []
        self._in_time: dict[Priority, list[tuple[float, int, Running]]] = {each: [] for each in Priority}
        self._overdue: dict[Priority, list[tuple[float, int, Running]]] = {each: [] for each in Priority}
        self._late: dict[Priority, list[tuple[int, Running]]] = {each: [] for each in Priority}
        self._expiring: list[tuple[float, int, Running]] = []  # those in time or overdue, until when
        self._oldest = Oldest()

    def __len__(self) -> int:
        return len(self._all)

    def add(self, running: Running) -> None:
        """It came last of all."""
        self._all.append((running.arrival, running))
        if running.begun and running.promised:
            self._begun.append((running.arrival, running))
        else:
            insort(self._in_time[running.urgency.priority], (running.turn, running.arrival, running))
            insort(self._expiring, (running.starts_by_s, running.arrival, running))

    def set_back(self, running: Running) -> None:
        """It had its seat, and its client waits in mid-stream."""
        insort(self._all, (running.arrival, running))
        insort(self._begun, (running.arrival, running))

    def remove(self, running: Running) -> None:
        """It has left."""
        arrival, priority = running.arrival, running.urgency.priority
        taken = _take(self._all, (arrival,))
        assert taken, f"{running.request} does not wait"
        if _take(self._begun, (arrival,)) or _take(self._late[priority], (arrival,)):
            return
        if _take(self._overdue[priority], (running.late_turn, arrival)):
            _take(self._expiring, (running.late_starts_by_s, arrival))
            return
        in_time = _take(self._in_time[priority], (running.turn, arrival))
        assert in_time, f"{running.request} waits in no line"
        _take(self._expiring, (running.starts_by_s, arrival))

    def seat(self, running: Running) -> None:
        """It had its turn and goes."""
        oldest = self._all[0][1]
        if running is oldest:
            self._oldest.had_its_turn()
        else:
            self._oldest.passed(oldest)
        self.remove(running)

    def head(self, *, now: float) -> Running | None:
        """Whose turn it is."""
        if not self._all:
            return None
        oldest = self._all[0][1]
        if self._oldest.must(oldest):
            return oldest
        if self._begun:
            return self._begun[0][1]
        self._expire(now)
        for priority in Priority:
            if due := [line[0] for line in (self._in_time[priority], self._overdue[priority]) if line]:
                return min(due)[2]
            if late := self._late[priority]:
                return late[0][1]
        raise AssertionError("whoever waits is in a line")

    def _expire(self, now: float) -> None:
        missed = bisect_left(self._expiring, (now,))
        for _, arrival, running in self._expiring[:missed]:
            self._missed(running, arrival, now)
        del self._expiring[:missed]

    def _missed(self, running: Running, arrival: int, now: float) -> None:
        """Its deadline, or the later one: it goes where the next one holds."""
        priority = running.urgency.priority
        was_in_time = _take(self._in_time[priority], (running.turn, arrival))
        if was_in_time and now <= running.late_starts_by_s < inf:
            insort(self._overdue[priority], (running.late_turn, arrival, running))
            insort(self._expiring, (running.late_starts_by_s, arrival, running))
            return
        _take(self._overdue[priority], (running.late_turn, arrival))
        insort(self._late[priority], (arrival, running))


def _take(line: list[T], key: tuple[float, ...]) -> bool:
    """Out of a sorted line by what its entry begins with; whether it was there."""
    place = bisect_left(line, key)
    if place == len(line) or line[place][: len(key)] != key:
        return False
    del line[place]
    return True


def in_turn(prefilling: Sequence[Running], oldest: Oldest, profile: Profile, *, now: float) -> Sequence[Running]:
    """Who gets chunks of the next step, in this order, that of the queue; prefilling: by arrival."""
    if not any(each.urged for each in prefilling):
        return prefilling

    def rank(running: Running) -> tuple[bool, bool, bool, float]:
        batch = running.urgency.priority is Priority.BATCH
        return not (running.begun and running.promised), batch, *running.standing(profile, now=now)

    if oldest.must(prefilling[0]):
        return [prefilling[0], *sorted(prefilling[1:], key=rank)]
    return sorted(prefilling, key=rank)
