"""How often Python looks for garbage while a simulation or a load test runs."""

import gc

import pytest

from loadtest.garbage import NEW_OBJECTS, seldom_collected, set_apart


def test_while_a_simulation_runs_garbage_is_looked_for_seldom_and_afterwards_as_before() -> None:
    before = gc.get_threshold()
    with seldom_collected():
        assert gc.get_threshold()[0] == NEW_OBJECTS
    assert gc.get_threshold() == before


def test_a_simulation_that_is_given_up_leaves_the_collector_as_it_was() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyboardInterrupt), seldom_collected():
        raise KeyboardInterrupt
    assert gc.get_threshold() == before


def test_what_is_there_when_a_load_test_begins_is_set_apart_until_it_ends() -> None:
    before = gc.get_freeze_count()
    with set_apart():
        assert gc.get_freeze_count() > before
    assert gc.get_freeze_count() == 0
