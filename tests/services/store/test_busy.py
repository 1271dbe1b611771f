"""A disk's seconds: several requests at a time count once."""

import pytest

from services.store.busy import Busy


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_requests_that_overlap_count_once_and_pauses_not_at_all() -> None:
    clock = Clock()
    busy = Busy(clock)
    with busy.request(10):
        clock.now = 2.0
        with busy.request(20):
            clock.now = 3.0
    clock.now = 10.0
    with busy.request(5):
        clock.now = 11.0

    assert busy.take() == (35, 4.0)
    assert busy.take() == (0, 0.0)


def test_a_request_that_fails_moves_nothing_and_takes_its_time() -> None:
    clock = Clock()
    busy = Busy(clock)

    def tears() -> None:
        with busy.request(10):
            clock.now = 2.0
            raise OSError("torn")

    with pytest.raises(OSError, match="torn"):
        tears()
    assert busy.take() == (0, 2.0)


def test_what_is_under_way_counts_from_where_it_was_asked_before() -> None:
    clock = Clock()
    busy = Busy(clock)
    with busy.request(10):
        clock.now = 1.0
        with busy.request(5):
            clock.now = 2.0
        assert busy.take() == (5, 2.0)
        clock.now = 5.0

    assert busy.take() == (10, 3.0)
