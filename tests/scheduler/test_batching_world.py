"""A batcher under anything that may happen to it: long seeded walks, and a state machine whose failures shrink."""

from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.scheduler.world import World

CHANCE = st.integers(0, 2**32).map(Random)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_no_sequence_reads_anothers_kv_and_all_of_them_end(seed: int) -> None:
    random = Random(seed)
    world = World(blocks=random.choice([6, 8, 12, 30]))
    for _ in range(150):
        world.happen(random)

    world.come_to_rest(random)


@pytest.mark.parametrize("seed", range(40))
def test_promises_change_who_comes_next_and_nothing_else(seed: int) -> None:
    random = Random(seed)
    world = World(blocks=random.choice([6, 8, 12, 30]), promises=True)
    for _ in range(150):
        world.happen(random)

    world.come_to_rest(random)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(blocks=8)

    @rule(random=CHANCE)
    def add(self, random: Random) -> None:
        self.world.add(random)

    @rule(random=CHANCE)
    def cancel(self, random: Random) -> None:
        self.world.cancel(random)

    @rule()
    def admit(self) -> None:
        self.world.admit()

    @precondition(lambda self: self.world.loads)
    @rule(random=CHANCE)
    def load(self, random: Random) -> None:
        self.world.load(random)

    @precondition(lambda self: self.world.flight is None)
    @rule()
    def form(self) -> None:
        self.world.form()

    @precondition(lambda self: self.world.flight is not None)
    @rule(random=CHANCE)
    def run(self, random: Random) -> None:
        self.world.run(random)

    @rule(random=CHANCE, events=st.integers(1, 40))
    def anything(self, random: Random, events: int) -> None:
        for _ in range(events):
            self.world.happen(random)

    @invariant()
    def check(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        self.world.come_to_rest(Random(0))


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=30, stateful_step_count=20)
