"""In float32 the engine computes what transformers computes, for every family and form of it that it runs."""

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.llama import LlamaEngine
from tests.engine.llama.checkpoints import MODELS, reference_logits, save_model
from tests.engine.llama.driving import (
    BLOCK,
    Text,
    assert_greedy,
    greedy,
    in_a_row,
    in_runs,
    load,
    prompt,
    scattered,
    step,
    whole,
)

Pair = tuple[Any, LlamaEngine]
"""transformers' model and ours."""


@pytest.fixture(scope="module", params=list(MODELS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    directory = tmp_path_factory.mktemp("model")
    family, changes = MODELS[request.param]
    model = save_model(directory, family, **changes)
    return model, load(directory)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Sums in another order, over logits of size 1 to 10."""
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("length", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 3, 150])
def test_a_whole_prompt(pair: Pair, length: int) -> None:
    model, engine = pair
    tokens = prompt(length)
    close(whole(engine, tokens, in_a_row(20)), reference_logits(model, tokens))


@pytest.mark.parametrize("chunks", [(BLOCK,), (64, 80, 128), (7, 8, 64, 65, 100)], ids=str)
def test_a_prompt_in_chunks_on_and_off_block_boundaries(pair: Pair, chunks: tuple[int, ...]) -> None:
    model, engine = pair
    tokens = prompt(133, seed=1)
    close(whole(engine, tokens, in_a_row(20, 3), chunks), reference_logits(model, tokens))


def test_pages_anywhere(pair: Pair) -> None:
    model, engine = pair
    tokens = prompt(140, seed=2)
    theirs = reference_logits(model, tokens)
    total = engine.blocks_total
    for blocks in (in_a_row(9, total - 9), scattered(9, total), in_runs(9, total), in_runs(9, total, run=4)):
        close(whole(engine, tokens, blocks, (64,)), theirs)
        close(whole(engine, tokens, blocks, (64, 128, 138, 139)), theirs)


def test_decodes_and_chunks_of_many_in_one_batch(pair: Pair) -> None:
    model, engine = pair
    total = engine.blocks_total
    lengths, starts = (90, 40, 75, 17), (0, 6, 9, 14)
    texts = [
        Text(prompt(length, seed), blocks, name=str(seed))
        for seed, (length, blocks) in enumerate(
            zip(lengths, (in_a_row(6, starts[0]), [9, 6, 8], in_a_row(5, 10), [total - 1, total - 3]), strict=True)
        )
    ]
    a, b, c, d = texts
    step(engine, (a, 64), (b, 16))
    step(engine, (b, 23), (a, 16), (c, 1))
    step(engine, (b, 1), (a, 1), (c, 63), (d, 16))
    step(engine, (d, 1), (a, 1), (c, 11))
    step(engine, (a, 8))
    for text in texts:
        assert text.computed == len(text.tokens)
        close(torch.cat(text.logits), reference_logits(model, text.tokens))


def test_a_prefix_that_another_sequence_computed(pair: Pair) -> None:
    model, engine = pair
    first, second = prompt(70, seed=5), prompt(70, seed=5)[:48] + prompt(41, seed=6)
    whole(engine, first, in_a_row(5))
    text = Text(second, [0, 1, 2, 30, 31, 32], computed=48)
    step(engine, (text, 41))
    close(text.logits[0], reference_logits(model, second)[48:])


def test_greedy_tokens(pair: Pair) -> None:
    model, engine = pair
    tokens = prompt(45, seed=7)
    output = greedy(engine, tokens, in_runs(8, engine.blocks_total), 40)
    assert_greedy(reference_logits(model, tokens + output), tokens + output, len(tokens))


def test_a_sharded_checkpoint_is_read_by_its_index(tmp_path: Path) -> None:
    model = save_model(tmp_path, "Qwen3", shard_size="20KB", head_dim=32)
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    tokens = prompt(30)
    close(whole(load(tmp_path), tokens, in_a_row(2)), reference_logits(model, tokens))


@pytest.mark.parametrize("name", list(MODELS))
def test_torch_alone_does_the_same_where_the_c_kernels_were_not_built(tmp_path: Path, name: str) -> None:
    family, changes = MODELS[name]
    model = save_model(tmp_path, family, **changes)
    engine = load(tmp_path, kernels=False)
    tokens = prompt(140, seed=8)
    theirs = reference_logits(model, tokens)
    for blocks in (in_a_row(9, 3), scattered(9, engine.blocks_total)):
        close(whole(engine, tokens, blocks, (64, 128, 138, 139)), theirs)
        close(whole(engine, tokens, blocks, (7, 100)), theirs)
