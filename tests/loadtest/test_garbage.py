"""How often Python looks for garbage during a simulation."""

import gc

import pytest

from loadtest.simulator.garbage import NEW_OBJECTS, seldom_collected


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
