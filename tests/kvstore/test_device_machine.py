"""Sequences that come, grow, publish, fork and leave in any order, against a model of dictionaries."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kvstore.device import DeviceBlocks
from kvstore.names import BlockName
from tests.kvstore.builders import names


class DeviceMachine(RuleBasedStateMachine):
    @initialize(total=st.one_of(st.integers(1, 24), st.integers(32, 80)))
    def open(self, total: int) -> None:
        self.total = total
        self.device = DeviceBlocks(total)
        self.pins: Counter[int] = Counter()
        self.named: dict[BlockName, int] = {}
        self.sequences: list[tuple[str, list[int]]] = []

    @property
    def cached(self) -> set[int]:
        return {block for block in self.named.values() if not self.pins[block]}

    def took(self, blocks: list[int] | None, count: int, free: int) -> list[int] | None:
        """What ``take`` gave, once it is seen to be right; names whose blocks it gave are gone."""
        assert (blocks is None) == (count > free)
        if blocks is None:
            return None
        assert len(blocks) == len(set(blocks)) == count
        assert not any(self.pins[block] for block in blocks), "a block in use was given away"
        self.pins.update(blocks)
        self.named = {name: block for name, block in self.named.items() if block not in blocks}
        return blocks

    @property
    def free(self) -> int:
        return self.total - len(+self.pins)

    @rule(text=st.text("ab", min_size=1, max_size=14))
    def arrive(self, text: str) -> None:
        held = self.device.match(names(text))
        known = [self.named.get(name) for name in names(text)]
        assert held == known[: known.index(None) if None in known else None]
        self.device.pin(held)
        self.pins.update(held)
        wanted = len(text) - len(held)
        fresh = self.device.take(wanted, after=held[-1] if held else None)
        if self.took(fresh, wanted, self.free) is None:
            self.device.unpin(held)
            self.pins.subtract(held)
        else:
            self.sequences.append((text, held + (fresh or [])))

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), letter=st.sampled_from("ab"))
    def grow(self, data: st.DataObject, letter: str) -> None:
        index = data.draw(st.integers(0, len(self.sequences) - 1))
        text, blocks = self.sequences[index]
        behind = blocks[-1] + 1
        unused = behind < self.total and not self.pins[behind] and behind not in self.named.values()
        grown = self.device.take(1, after=blocks[-1])
        assert not unused or grown == [behind], "there was room to stay in a row"
        if self.took(grown, 1, self.free):
            self.sequences[index] = (text + letter, blocks + (grown or []))

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        text, blocks = data.draw(st.sampled_from(self.sequences))
        place = data.draw(st.integers(0, len(blocks) - 1))
        block, name = blocks[place], names(text)[place]
        assert self.device.name(block, name) == (self.named.setdefault(name, block) == block)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        """Another sequence shares all blocks of this one, named or not."""
        text, blocks = data.draw(st.sampled_from(self.sequences))
        self.device.pin(blocks)
        self.pins.update(blocks)
        self.sequences.append((text, list(blocks)))

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        _, blocks = self.sequences.pop(data.draw(st.integers(0, len(self.sequences) - 1)))
        self.device.unpin(blocks)
        self.pins.subtract(blocks)

    @rule()
    def forget(self) -> None:
        assert self.device.forget() == len(self.named)
        self.named.clear()

    @invariant()
    def the_laws_hold_and_the_model_agrees(self) -> None:
        self.device.check()
        assert self.device.pinned == len(+self.pins)
        assert self.device.free == self.free
        assert self.device.cached == len(self.cached)
        for name, block in self.named.items():
            assert self.device.match([name]) == [block]

    def teardown(self) -> None:
        for _, blocks in self.sequences:
            self.device.unpin(blocks)
        assert self.device.free == self.device.total
        self.device.check()


DeviceMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestDeviceBlocksAgainstDictionaries = DeviceMachine.TestCase
