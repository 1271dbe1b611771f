"""What can't be loaded is refused in a sentence; what is loaded is known by its digest."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.port import EngineError, UnsupportedModel
from tests.engine.llama.checkpoints import save_model
from tests.engine.llama.driving import load

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("saved")
    save_model(directory, "Llama")
    return directory


@pytest.fixture
def directory(saved: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def change(directory: Path, edit: Callable[[Tensors], Any]) -> None:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.norm.weight",
        "lm_head.weight",
        "model.layers.1.self_attn.k_proj.weight",
        "model.layers.2.mlp.down_proj.weight",
        "model.layers.0.post_attention_layernorm.weight",
    ],
)
def test_a_missing_weight_is_named(directory: Path, name: str) -> None:
    change(directory, lambda tensors: tensors.pop(name))
    with pytest.raises(EngineError, match=f"model has no weight {name}"):
        load(directory)


def test_a_weight_of_another_shape_is_named(directory: Path) -> None:
    name = "model.layers.1.self_attn.q_proj.weight"
    change(directory, lambda tensors: tensors.update({name: torch.zeros(47, 48)}))
    with pytest.raises(EngineError, match=r"layers.1.self_attn.q_proj.weight is \[47, 48\] instead of \[48, 48\]"):
        load(directory)


def test_pickles_are_never_read(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(EngineError, match=r"no model.safetensors \(other formats, pickles among them, are never read"):
        load(directory)


@pytest.mark.parametrize("content", [b"", b"\x80\x04not safetensors at all"])
def test_a_file_that_is_no_safetensors_is_refused(directory: Path, content: bytes) -> None:
    (directory / "model.safetensors").write_bytes(content)
    with pytest.raises(EngineError, match=r"model.safetensors can't be read as safetensors"):
        load(directory)


def test_a_truncated_file_is_refused(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EngineError, match="can't be read as safetensors"):
        load(directory)


@pytest.mark.parametrize("index", ["{", "{}", '{"weight_map": 3}'])
def test_an_index_that_is_none_is_refused(directory: Path, index: str) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(index)
    with pytest.raises(EngineError, match="is no index of weights"):
        load(directory)


def test_a_missing_shard_is_refused(directory: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(EngineError, match=r"model-00001-of-00002\.safetensors can't be read"):
        load(directory)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_model_len": 513}, "max_model_len 513 is beyond the context of model, 512 tokens"),
        ({"kv_cache_bytes": 100}, "a KV cache of 100 bytes holds no block"),
        ({"dtype": "int8"}, "the dtype 'int8' is not one of bfloat16, float32, float16"),
        ({"device": "abacus"}, "there is no device 'abacus'"),
        ({"device": "meta"}, "the device 'meta' can't be used here"),
    ],
    ids=str,
)
def test_settings_that_can_not_be_are_refused(saved: Path, tmp_path: Path, settings: Any, named: str) -> None:
    directory = tmp_path / "model"
    directory.symlink_to(saved)
    with pytest.raises(EngineError, match=named):
        load(directory, **settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none(saved: Path) -> None:
    with pytest.raises(EngineError, match="the device 'cuda' can't be used here"):
        load(saved, device="cuda")


def test_a_checkpoints_own_dtype_is_taken_and_float16_runs_as_bfloat16(directory: Path) -> None:
    path = directory / "config.json"
    config = json.loads(path.read_text())
    for asked, taken in (("float32", "float32"), ("bfloat16", "bfloat16"), ("float16", "bfloat16")):
        path.write_text(json.dumps(config | {"dtype": asked}))
        assert load(directory, dtype="auto").dtype == taken
    path.write_text(json.dumps(config | {"dtype": "float8_e4m3fn"}))
    with pytest.raises(EngineError, match="'float8_e4m3fn'"):
        load(directory, dtype="auto")


def test_a_refused_model_is_refused_before_its_weights_are_looked_for(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UnsupportedModel):
        load(tmp_path)


def test_the_context_is_cut_to_what_the_kv_cache_holds(saved: Path) -> None:
    small = load(saved, kv_cache_bytes=3 * load(saved).layout.block_bytes + 17)
    assert (small.blocks_total, small.max_model_len) == (3, 48)
    assert load(saved).max_model_len == 512
    assert load(saved, max_model_len=100).max_model_len == 100


def test_the_digest_follows_weights_and_configuration(directory: Path) -> None:
    before = load(directory).weights
    assert load(directory).weights == before
    change(directory, lambda tensors: tensors["model.norm.weight"].add_(1))
    other = load(directory).weights
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-6}))
    assert len({before, other, load(directory).weights}) == 3


def test_the_digest_is_of_the_tensors_not_of_how_they_are_cut_into_files(saved: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "sharded", "Llama", shard_size="40KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert load(tmp_path / "sharded").weights == load(saved).weights


def test_warming_up_measures_what_work_costs(saved: Path) -> None:
    profile = load(saved).warm_up()
    assert min(profile.prefill_s + profile.step_s + profile.transfer_s) >= 0
    assert sum(profile.prefill_s) > 0
    assert sum(profile.step_s) > 0
    tiny = load(saved, kv_cache_bytes=load(saved).layout.block_bytes)
    assert sum(tiny.warm_up().step_s) > 0
