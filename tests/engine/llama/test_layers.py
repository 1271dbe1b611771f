"""Whole layers in C: as near to float32 as torch's bf16 is, and the same bits whatever else is computed beside."""

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.llama import LlamaEngine
from engine.llama.attention import Span
from engine.llama.config import parse_config, read_config
from engine.llama.layers import INSTRUCTIONS, load_layers, processor_flags
from engine.llama.layers.decoder import CHUNK_ROWS, LayersDecoder, clipped, interleave, pack
from engine.synthetic import step_batch
from scheduler.batch import Batch
from tests.engine.llama.checkpoints import save_model
from tests.engine.llama.driving import Text, in_a_row, in_runs, load, prompt, scattered, step, whole

SIZES: dict[str, Any] = {
    "vocab_size": 144,  # no multiple of 32
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "max_position_embeddings": 1024,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama, tied, no groups, heads of 32": (
        "Llama",
        {"tie_word_embeddings": True, "num_key_value_heads": 3, "head_dim": 32},
    ),
    "llama, biased, a group of 20": (
        "Llama",
        {"attention_bias": True, "num_attention_heads": 20, "head_dim": 32, "hidden_size": 160},
    ),
    "mistral, heads of 256": ("Mistral", {"head_dim": 256, "sliding_window": None}),
    "qwen2, heads of 96": ("Qwen2", {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 96}),
    "qwen3, heads of 128": ("Qwen3", {"head_dim": 128}),
}
BLOCK = 32


def bfloat16(directory: Path, **changes: Any) -> LlamaEngine:
    return load(directory, **{"dtype": "bfloat16", "block_tokens": BLOCK, "kv_cache_bytes": 8 << 20} | changes)


@pytest.fixture(scope="module", params=list(MODELS))
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    family, changes = MODELS[request.param]
    save_model(path, family, **SIZES | changes)
    return path


@pytest.fixture(scope="module", params=list(INSTRUCTIONS))
def engine(directory: Path, request: pytest.FixtureRequest) -> LlamaEngine:
    wanted = (request.param,)
    if load_layers(read_config(directory), torch.bfloat16, torch.device("cpu"), BLOCK, wanted) is None:
        pytest.skip(f"this processor has no {request.param}, or the kernels were not built")
    made = bfloat16(directory, layers=wanted)
    assert isinstance(made.runner, LayersDecoder)
    return made


def error(ours: torch.Tensor, exact: torch.Tensor) -> float:
    return float((ours.float() - exact).square().mean().sqrt())


def test_as_near_to_float32_as_torch_in_bfloat16(engine: LlamaEngine, directory: Path) -> None:
    tokens, blocks = prompt(150, vocab=144), in_a_row(5)
    exact = whole(load(directory, block_tokens=BLOCK), tokens, blocks)
    torchs = whole(bfloat16(directory, kernels=False), tokens, blocks)
    assert error(whole(engine, tokens, blocks), exact) < 1.25 * error(torchs, exact)


@pytest.mark.parametrize("chunks", [(64, 128), (1, 2, 3, 90), tuple(range(100, 170)), (17, 18, 160)])
def test_chunks_of_any_length_give_the_same_bits(engine: LlamaEngine, chunks: tuple[int, ...]) -> None:
    tokens, blocks = prompt(170, vocab=144), in_a_row(6)
    assert torch.equal(whole(engine, tokens, blocks, chunks), whole(engine, tokens, blocks))


def test_pages_anywhere_give_the_same_bits(engine: LlamaEngine) -> None:
    tokens = prompt(170, vocab=144)
    expected = whole(engine, tokens, in_a_row(6), (100,))
    for blocks in (scattered(6, 20), in_runs(6, 20)):
        assert torch.equal(whole(engine, tokens, blocks, (100,)), expected)


def test_a_batch_of_decodes_and_chunks_gives_each_its_own_bits(engine: LlamaEngine) -> None:
    texts = [Text(prompt(70 + 9 * i, seed=i, vocab=144), in_a_row(5, 5 * i), name=str(i)) for i in range(4)]
    step(engine, (texts[0], 69), (texts[1], 33))
    step(engine, (texts[2], 87))
    step(engine, (texts[0], 1), (texts[1], 20), (texts[2], 1), (texts[3], 64))
    step(engine, (texts[3], 33), (texts[1], 26))
    for text in texts:
        assert text.computed == len(text.tokens)
        assert torch.equal(torch.cat(text.logits), whole(engine, text.tokens, in_a_row(5, 20)))


def test_a_step_of_more_rows_than_a_chunk(engine: LlamaEngine) -> None:
    tokens, blocks = prompt(2 * CHUNK_ROWS - 100, vocab=144), in_a_row(29)
    both = Text(tokens, blocks), Text(tokens[:90], in_a_row(3, 30), name="b")
    step(engine, (both[1], 80))
    step(engine, (both[1], 10), (both[0], len(tokens)))
    expected = whole(engine, tokens, blocks, (300, 900))
    assert torch.equal(both[0].logits[0], expected)
    assert torch.equal(torch.cat(both[1].logits), expected[:90])


def test_threads_share_the_work_and_change_no_bit(engine: LlamaEngine) -> None:
    tokens, blocks = prompt(170, vocab=144), in_a_row(6)
    alone = whole(engine, tokens, blocks, (150, 151))
    torch.set_num_threads(2)
    try:
        assert torch.equal(whole(engine, tokens, blocks, (150, 151)), alone)
    finally:
        torch.set_num_threads(1)


def test_what_lies_behind_a_sequence_in_its_pages_is_never_read(directory: Path, engine: LlamaEngine) -> None:
    assert isinstance(engine.runner, LayersDecoder)
    dirty = bfloat16(directory, layers=(engine.runner.instructions,))
    with torch.inference_mode():
        dirty._pages.tensor.fill_(float("nan"))
    tokens, blocks = prompt(75, vocab=144), in_a_row(3)
    expected = whole(engine, tokens, blocks, (70, 71))
    assert torch.equal(whole(dirty, tokens, blocks, (70, 71)), expected)


def test_a_layer_is_in_its_pages_when_it_is_told(engine: LlamaEngine) -> None:
    text = Text(prompt(90, vocab=144), in_a_row(3))
    seen: list[torch.Tensor] = []
    engine.run(Batch((text.slice(90),)), lambda layer: seen.append(engine._pages.tensor[layer, :, :, :3].clone()))
    assert torch.equal(torch.stack(seen), engine._pages.tensor[:, :, :, :3])


def test_steps_that_ask_for_no_logits_and_steps_of_many_rows_work(engine: LlamaEngine) -> None:
    assert None not in engine.run(step_batch(7, 60, BLOCK)).tokens


def test_packing_keeps_every_weight_in_its_tile() -> None:
    weight = torch.arange(48 * 64).view(48, 64).to(torch.float32)
    packed = pack(weight)
    assert packed.shape == (4, 2, 16, 16, 2)
    assert packed[2, 1, 5, 7].tolist() == weight[2 * 16 + 7, 32 + 2 * 5 : 32 + 2 * 5 + 2].tolist()
    assert not packed[3].any()


def test_gate_and_up_take_turns() -> None:
    gate, up = torch.zeros(32, 3), torch.ones(32, 3)
    assert interleave(gate, up)[:, 0].view(4, 16)[:, 0].tolist() == [0, 1, 0, 1]


def test_spans_are_cut_where_a_chunk_ends() -> None:
    spans = [Span(0, 3, 10, [7], 0), Span(3, 5, 0, [8], None)]
    assert clipped(spans, 0, 4) == [Span(0, 3, 10, [7], 0), Span(3, 1, 0, [8], None)]
    assert clipped(spans, 4, 4) == [Span(0, 4, 1, [8], None)]


def test_no_kernel_is_chosen_that_the_processor_lacks_an_instruction_for() -> None:
    config = parse_config("m", {"model_type": "llama", "num_hidden_layers": 1} | SIZES)
    for name, needed in INSTRUCTIONS.items():
        found = load_layers(config, torch.bfloat16, torch.device("cpu"), BLOCK, (name,))
        assert found is None or (found.instructions == name and needed <= processor_flags())
    assert load_layers(config, torch.bfloat16, torch.device("cpu"), BLOCK, ()) is None


@pytest.mark.parametrize(
    ("dtype", "block_tokens", "changes"),
    [
        (torch.float32, 64, {}),
        (torch.bfloat16, 16, {}),
        (torch.bfloat16, 64, {"head_dim": 80}),
        (torch.bfloat16, 64, {"intermediate_size": 100}),
    ],
)
def test_other_dtypes_and_sizes_take_another_way(
    dtype: torch.dtype, block_tokens: int, changes: dict[str, Any]
) -> None:
    config = parse_config("m", {"model_type": "llama", "num_hidden_layers": 1} | SIZES | changes)
    assert load_layers(config, dtype, torch.device("cpu"), block_tokens) is None
