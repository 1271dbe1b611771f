"""How processes keep Python's garbage collector away from those who wait."""

import gc
from collections.abc import Iterator

import pytest

from services.runtime.garbage import MANY, collect_seldom, collector_paused, leave_alone


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)  # Python's own: a conductor that ran in this process has made them larger
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_is_loaded_is_never_looked_at_again_and_the_rest_seldom() -> None:
    before = gc.get_threshold()
    collect_seldom()

    assert gc.get_freeze_count() > 0
    assert gc.get_threshold() > before


def test_while_blocks_come_nobody_looks_for_garbage_and_afterwards_as_before() -> None:
    with collector_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_only_very_many_blocks_are_worth_leaving_alone() -> None:
    gc.unfreeze()
    leave_alone(MANY - 1)
    assert gc.get_freeze_count() == 0
    leave_alone(MANY)
    assert gc.get_freeze_count() > 0
