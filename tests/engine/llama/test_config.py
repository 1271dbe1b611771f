"""What a config.json asks for is understood as transformers understands it, in its old form and its new one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.llama.config import ModelConfig, Rope, parse_config, read_config
from engine.llama.rope import frequencies
from engine.port import EngineError, UnsupportedModel
from tests.engine.llama.checkpoints import LINEAR, LLAMA3, MODELS, save_model

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "vocab_size": 100,
}
"""As files from before transformers 5 have it: rope_theta, rope_scaling and torch_dtype at the top."""


def parsed(**changes: Any) -> ModelConfig:
    document = LLAMA | changes
    if "model_type" in changes:
        document.pop("architectures")
    return parse_config("m", document)


@pytest.mark.parametrize("name", list(MODELS))
def test_what_the_installed_transformers_writes_is_read(tmp_path: Path, name: str) -> None:
    family, changes = MODELS[name]
    model = save_model(tmp_path, family, **changes)
    config, theirs, attention = read_config(tmp_path), model.config, model.model.layers[0].self_attn
    assert (config.heads, config.kv_heads) == (theirs.num_attention_heads, theirs.num_key_value_heads)
    assert config.head_dim == attention.head_dim
    assert config.tied == theirs.tie_word_embeddings
    assert config.qkv_bias == (attention.q_proj.bias is not None)
    assert config.output_bias == (attention.o_proj.bias is not None)
    assert config.qk_norm == hasattr(attention, "q_norm")
    assert (config.rms_norm_eps, config.max_position_embeddings, config.dtype) == (1e-5, 512, "float32")
    assert config.rope.kind == theirs.rope_parameters["rope_type"]
    torch.testing.assert_close(frequencies(config.rope, config.head_dim), model.model.rotary_emb.inv_freq)


@pytest.mark.parametrize("kind", [LINEAR, LLAMA3], ids=lambda kind: kind["rope_type"])
def test_rope_is_the_same_in_the_old_form_and_the_new(kind: dict[str, Any]) -> None:
    scaling = {key: value for key, value in kind.items() if key != "rope_theta"}
    old = parsed(rope_theta=kind["rope_theta"], rope_scaling=scaling)
    new = parsed(rope_parameters=kind)
    assert old == new
    assert (new.rope.kind, new.rope.theta, new.rope.factor) == (kind["rope_type"], kind["rope_theta"], kind["factor"])


def test_older_files_call_the_rope_type_type() -> None:
    assert parsed(rope_scaling={"type": "linear", "factor": 2.0}).rope == Rope(10000.0, "linear", 2.0)


def test_what_may_be_missing_has_its_usual_meaning() -> None:
    config = parse_config("m", {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"})
    assert (config.kv_heads, config.group, config.head_dim) == (4, 1, 16)
    assert (config.rope, config.tied, config.qkv_bias, config.qk_norm) == (Rope(10000.0), False, False, False)
    assert config.rms_norm_eps == 1e-6
    assert config.dtype == ""


@pytest.mark.parametrize(("field", "dtype"), [("dtype", "float32"), ("torch_dtype", "float16")])
def test_the_dtype_is_read_under_both_its_names(field: str, dtype: str) -> None:
    assert parsed(**{field: dtype}).dtype == dtype


def test_biases_are_where_each_family_has_them() -> None:
    def biases(model_type: str, **changes: Any) -> tuple[bool, bool]:
        config = parsed(model_type=model_type, sliding_window=None, **changes)
        return config.qkv_bias, config.output_bias

    assert biases("qwen2") == biases("qwen2", attention_bias=True) == (True, False)
    assert biases("llama", attention_bias=True) == biases("qwen3", attention_bias=True) == (True, True)
    assert biases("mistral", attention_bias=True) == (False, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "mistral", "sliding_window": None},
        {"model_type": "mistral", "sliding_window": 2048},
        {"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": False},
        {"model_type": "qwen2", "sliding_window": 64},
        {"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": True, "max_window_layers": 2},
        {"model_type": "qwen3", "sliding_window": 64, "layer_types": ["full_attention"] * 2},
    ],
    ids=str,
)
def test_windows_that_never_bite_are_fine(changes: dict[str, Any]) -> None:
    assert parsed(**changes).max_position_embeddings == 2048


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "mistral", "sliding_window": 2047},
        {"model_type": "mistral", "max_position_embeddings": 8192},
        {"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": True, "max_window_layers": 1},
        {"model_type": "qwen3", "sliding_window": 64, "layer_types": ["full_attention", "sliding_attention"]},
    ],
    ids=str,
)
def test_windows_that_bite_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModel, match="m is not supported: sliding-window attention"):
        parsed(**changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "mixtral"}, "'mixtral' is not one of llama, mistral, qwen2, qwen3"),
        ({"model_type": "qwen3_moe"}, "'qwen3_moe'"),
        ({"model_type": None}, "'None'"),
        ({"num_local_experts": 8}, "mixtures of experts"),
        ({"num_experts": 128}, "mixtures of experts"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "'LlamaForSequenceClassification' is no causal"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised weights"),
        ({"hidden_act": "gelu"}, "the activation 'gelu'"),
        ({"mlp_bias": True}, "biases in its MLP"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rotary embeddings of type 'yarn'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "'dynamic'"),
        ({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}, "'longrope'"),
        ({"partial_rotary_factor": 0.5}, "a part \\(0.5\\) of each head"),
        ({"num_key_value_heads": 3}, "4 query heads over 3 key/value heads"),
        ({"head_dim": 15}, "heads of 15 dimensions"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "layers of type 'linear_attention'"),
    ],
    ids=str,
)
def test_what_is_not_run_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"^m is not supported: .*{named}"):
        parsed(**changes)


@pytest.mark.parametrize("field", ["hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size"])
def test_what_is_needed_and_missing_is_named(field: str) -> None:
    with pytest.raises(EngineError, match=rf"m: config\.json has no {field}"):
        parse_config("m", {key: value for key, value in LLAMA.items() if key != field})
    with pytest.raises(EngineError, match=r"m: config\.json holds something of a wrong type"):
        parsed(**{field: "many"})


def test_a_scaling_without_its_factor_is_refused() -> None:
    with pytest.raises(EngineError, match="has no factor"):
        parsed(rope_scaling={"rope_type": "linear"})
    with pytest.raises(EngineError, match="has no low_freq_factor"):
        parsed(rope_scaling={"rope_type": "llama3", "factor": 8.0})


@pytest.mark.parametrize(("content", "named"), [(None, "is no model directory"), ("{", "no JSON"), ("[]", "no object")])
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, content: str | None, named: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(EngineError, match=named):
        read_config(tmp_path)


def test_an_unsupported_model_is_named_after_its_directory(tmp_path: Path) -> None:
    directory = tmp_path / "mixtral-8x7b"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(LLAMA | {"model_type": "mixtral"}))
    with pytest.raises(UnsupportedModel, match="mixtral-8x7b is not supported"):
        read_config(directory)
