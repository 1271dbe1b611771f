"""One answer, whatever the path, with the embedded model: 24 prompts of 1 to 1,500 tokens, 64 tokens each.

In float32 every path's greedy tokens are those of transformers, teacher-forced; of two logits that lie within
1e-3 either may be taken (design.md, promise 1). In bfloat16 all paths give the same tokens by whole layers in C,
elsewhere those whose products have the same shapes; and all are within a documented bound of float32 (docs/engine.md).
"""

import os
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch

from engine.llama import LlamaEngine
from engine.llama.layers.decoder import LayersDecoder
from kvstore.names import block_names
from scheduler.vocabulary import Limits
from tests.engine.llama.driving import NEAR_TIE
from tests.engine.llama.embedded import LENGTHS, Reference, load_embedded, prompts, shortfalls
from tests.engine.paths import ROOT, Arena, Asked, Worker

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]

TOKENS = Limits(max_tokens=64)

SIZE = 64

BFLOAT16_SHORTFALL = 0.5
"""A chosen token's logit lies at most so far below float32's best one; measured: 0.04 by whole layers, else 0.15."""

Answers = list[list[int]]


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    """Two, where this process may use two cores: a thread that has to wait for a core stalls all."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, len(os.sched_getaffinity(0))))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def asked() -> list[Asked]:
    made = [Asked(prompt, limits=TOKENS) for prompt in prompts()]
    assert [len(each.prompt) for each in made] == list(LENGTHS)
    return made


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


@pytest.fixture(scope="module")
def engine() -> LlamaEngine:
    return load_embedded("float32")


# -- the paths: each runs all prompts on fresh device blocks -------------------------------------------------------


def make_worker(engine: LlamaEngine, arena: Arena | None = None, *, tokens: int = 2048, seats: int = 8) -> Worker:
    return Worker(arena, blocks=engine.blocks_total, seats=seats, tokens=tokens, model=engine)


def make_arena(engine: LlamaEngine, asked: list[Asked]) -> Arena:
    """Room for every block of every prompt and answer, twice."""
    blocks = sum((len(each.prompt) + TOKENS.max_tokens) // SIZE + 1 for each in asked)
    return Arena(2 * blocks, engine.layout)


def answered(worker: Worker, asked: list[Asked], name: str = "", *, one_by_one: bool = False) -> Answers:
    """What the worker answers to all of them, together or each when the one before has ended."""
    for index, each in enumerate(asked):
        worker.add(f"{name}{index}", each)
        if one_by_one:
            worker.work()
    worker.work()
    return [worker.given(f"{name}{index}") for index in range(len(asked))]


def cached_tokens(worker: Worker, asked: list[Asked], name: str) -> list[int]:
    return [worker.cached(f"{name}{index}") for index in range(len(asked))]


def reusable(asked: list[Asked]) -> list[int]:
    """All full blocks, and never the last token."""
    return [(len(each.prompt) - 1) // SIZE * SIZE for each in asked]


def alone(engine: LlamaEngine, asked: list[Asked]) -> Answers:
    return answered(make_worker(engine), asked, one_by_one=True)


def chunked(engine: LlamaEngine, asked: list[Asked], *, seats: int = 8) -> Answers:
    return answered(make_worker(engine, tokens=SIZE, seats=seats), asked)


def batched(engine: LlamaEngine, asked: list[Asked]) -> Answers:
    """Always with seven others, which join and leave: prefills and decodes share steps."""
    worker = make_worker(engine, tokens=512)
    answers = answered(worker, asked)
    assert worker.largest_batch == min(8, len(asked))
    return answers


def handed_over(engine: LlamaEngine, asked: list[Asked], *, tokens: int = 2048, seats: int = 8) -> Answers:
    """A worker prefills, its blocks go layer by layer into an arena, and another worker decodes."""
    arena = make_arena(engine, asked)
    prefill = make_worker(engine, arena, tokens=tokens, seats=seats)
    for index, each in enumerate(asked):
        prefill.add(str(index), each, hand_over=True)
    prefill.work()
    wipe(engine)
    decode = make_worker(engine, arena, tokens=tokens, seats=seats)
    for index, each in enumerate(asked):
        decode.add(str(index), each, output=prefill.given(str(index)), handed_over=True)
    decode.work()
    assert decode.lifted >= sum(-(-len(each.prompt) // SIZE) for each in asked)
    return [[*prefill.given(str(index)), *decode.given(str(index))] for index in range(len(asked))]


def from_device_blocks(engine: LlamaEngine, asked: list[Asked], *, tokens: int = 2048, seats: int = 8) -> Answers:
    """The same question a second time, while its prefix lies in the device blocks."""
    worker = make_worker(engine, tokens=tokens, seats=seats)
    answers: Answers = []
    for start in range(0, len(asked), 6):  # as many as the blocks hold at once
        some = asked[start : start + 6]
        answered(worker, [Asked(each.prompt, limits=Limits(1)) for each in some], f"first {start} ")
        answers += answered(worker, some, f"{start} ")
        assert cached_tokens(worker, some, f"{start} ") == reusable(some)
    return answers


def from_the_arena(engine: LlamaEngine, asked: list[Asked], *, tokens: int = 2048, seats: int = 8) -> Answers:
    """Another worker asks the store for what a first one published."""
    arena = make_arena(engine, asked)
    answered(
        make_worker(engine, arena, tokens=tokens, seats=seats), [Asked(each.prompt, limits=Limits(1)) for each in asked]
    )
    wipe(engine)
    worker = make_worker(engine, arena, tokens=tokens, seats=seats)
    answers = answered(worker, asked)
    assert cached_tokens(worker, asked, "") == reusable(asked)
    assert worker.lifted == sum(reusable(asked)) // SIZE
    return answers


def resumed(engine: LlamaEngine, asked: list[Asked]) -> Answers:
    """Preempted after some five tokens, since an older sequence needs its block; then back from the store."""
    answers: Answers = []
    for each in asked:
        arena = make_arena(engine, [each] * 2)
        mine = -(-(len(each.prompt) + 1) // SIZE)
        worker = Worker(arena, blocks=mine + 1 + (mine == 1), tokens=2048, model=engine)
        worker.add("older", Asked(tuple(range(100, 159 + SIZE * (mine == 1))), limits=Limits(8)))
        worker.add("a", each)
        worker.work(until=lambda worker=worker: worker.batcher.snapshot().preemptions > 0)  # type: ignore[misc]
        before = len(worker.given("a"))
        worker.device.forget()
        worker.work()
        assert worker.batcher.snapshot().preemptions == 1
        assert 0 < before < TOKENS.max_tokens
        assert worker.lifted == (len(each.prompt) + before - 1) // SIZE
        answers.append(worker.given("a"))
    return answers


@torch.inference_mode()
def wipe(engine: LlamaEngine) -> None:
    """What another worker would have in its pages: nothing of this one's."""
    engine._pages.tensor.fill_(7.0)


PATHS: dict[str, Callable[[LlamaEngine, list[Asked]], Answers]] = {
    "alone": alone,
    "in chunks of one block": chunked,
    "batched with seven others": batched,
    "handed over": handed_over,
    "prefix in device blocks": from_device_blocks,
    "prefix in the arena": from_the_arena,
    "resumed after preemption": resumed,
}


@pytest.mark.parametrize("path", list(PATHS))
def test_greedy_tokens_are_those_of_transformers(
    engine: LlamaEngine, asked: list[Asked], reference: Reference, path: str
) -> None:
    answers = PATHS[path](engine, asked)
    for each, answer in zip(asked, answers, strict=True):
        assert len(answer) == TOKENS.max_tokens
        short = shortfalls(reference.logits(each.prompt, tuple(answer)), answer)
        assert float(short.max()) < NEAR_TIE, f"prompt of {len(each.prompt)} tokens, token {int(short.argmax())}"


# -- bfloat16 ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def some(asked: list[Asked]) -> list[Asked]:
    """Every second prompt."""
    return asked[1::2]


@pytest.fixture(scope="module")
def by_layers() -> LlamaEngine:
    engine = load_embedded("bfloat16")
    if not isinstance(engine.runner, LayersDecoder):
        pytest.skip("this processor has no AVX-512")
    return engine


@pytest.fixture(scope="module")
def without_layers() -> LlamaEngine:
    return load_embedded("bfloat16", layers=())


@pytest.fixture(scope="module")
def alone_by_layers(by_layers: LlamaEngine, some: list[Asked]) -> Answers:
    return alone(by_layers, some)


@pytest.mark.parametrize("path", [path for path in PATHS if path != "alone"])
def test_in_bfloat16_by_layers_every_path_gives_the_same_tokens(
    by_layers: LlamaEngine, some: list[Asked], alone_by_layers: Answers, path: str
) -> None:
    """Every row is computed in one order there, whatever is beside it."""
    assert PATHS[path](by_layers, some) == alone_by_layers


def test_in_bfloat16_by_layers_tokens_are_within_the_bound(
    some: list[Asked], alone_by_layers: Answers, reference: Reference
) -> None:
    assert_within_bound(some, alone_by_layers, reference)


ALIKE: dict[str, Callable[[LlamaEngine, list[Asked]], Answers]] = {
    "handed over": partial(handed_over, tokens=SIZE, seats=1),
    "prefix in device blocks": partial(from_device_blocks, tokens=SIZE, seats=1),
    "prefix in the arena": partial(from_the_arena, tokens=SIZE, seats=1),
}
"""With one block a step and one sequence at a time, these compute what ``chunked`` does, product by product."""


@pytest.fixture(scope="module")
def few(asked: list[Asked]) -> list[Asked]:
    """Four or five. Of one token over a block ``chunked`` makes a chunk of 65, which reuse can't: left out."""
    return [each for each in asked if len(each.prompt) % SIZE != 1][::4]


@pytest.fixture(scope="module")
def in_chunks_without_layers(without_layers: LlamaEngine, few: list[Asked]) -> Answers:
    return chunked(without_layers, few, seats=1)


@pytest.mark.parametrize("path", list(ALIKE))
def test_in_bfloat16_without_layers_paths_with_the_same_products_give_the_same_tokens(
    without_layers: LlamaEngine, few: list[Asked], in_chunks_without_layers: Answers, path: str
) -> None:
    assert ALIKE[path](without_layers, few) == in_chunks_without_layers


@pytest.mark.parametrize("path", ["alone", "batched with seven others"])
def test_in_bfloat16_without_layers_other_paths_stay_within_the_bound(
    without_layers: LlamaEngine, few: list[Asked], reference: Reference, path: str
) -> None:
    assert_within_bound(few, PATHS[path](without_layers, few), reference)


def assert_within_bound(asked: list[Asked], answers: Answers, reference: Reference) -> None:
    for each, answer in zip(asked, answers, strict=True):
        assert len(answer) == TOKENS.max_tokens
        short = shortfalls(reference.logits(each.prompt, tuple(answer)), answer)
        assert float(short.max()) < BFLOAT16_SHORTFALL, f"prompt of {len(each.prompt)} tokens"


def test_blocks_of_other_tokens_have_other_names(asked: list[Asked]) -> None:
    """Else a path could pass because all prompts share their prefix."""
    names = [name for each in asked for name in block_names(ROOT, each.prompt, SIZE)]
    assert len(set(names)) == len(names)
