"""A GGUF file becomes the Hugging Face directory that it was once made from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file

from engine.llama.gguf import convert
from engine.llama.gguf_parts import open_gguf
from engine.port import EngineError, UnsupportedModel
from tests.engine.llama.checkpoints import LLAMA3, reference_logits, save_model
from tests.engine.llama.driving import in_a_row, load, prompt, whole

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name: str) -> str:
    stem, kind = name.rsplit(".", 1)
    if stem.startswith("model.layers."):
        _, _, layer, part = stem.split(".", 3)
        return f"blk.{layer}.{NAMES[part]}.{kind}"
    return f"{NAMES[stem]}.{kind}"


def permuted(weights: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """As llama.cpp's converter does it (LlamaModel.permute in convert_hf_to_gguf.py)."""
    return (
        weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )


def write_gguf(
    path: Path,
    model: Any,
    architecture: str,
    *,
    quantise: str = "F32",
    drop: str = "",
    fields: Mapping[str, int] | None = None,
) -> Path:
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_key_length(model.model.layers[0].self_attn.head_dim)
    writer.add_eos_token_id(2)
    writer.add_bos_token_id(1)
    for key, value in (fields or {}).items():
        writer.add_uint32(f"{architecture}.{key}", value)
    for name, parameter in model.state_dict().items():
        values = parameter.numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        permute = heads.get(name.split(".")[-2]) if architecture == "llama" else None
        if permute is not None:
            values = permuted(values, permute)
        if gguf_name(name) in (drop, "output.weight" if config.tie_word_embeddings else ""):
            continue
        kind = gguf.GGMLQuantizationType[quantise if values.ndim == 2 else "F32"]
        writer.add_tensor(gguf_name(name), gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


FORMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("Llama", "llama", {"num_attention_heads": 6, "num_key_value_heads": 2, "hidden_size": 96}),
    "llama, tied": ("Llama", "llama", {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2", "qwen2", {}),
    "qwen3": ("Qwen3", "qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "mistral": ("Mistral", "llama", {"head_dim": 24, "sliding_window": None}),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_conversion_gives_back_the_weights_in_bfloat16(tmp_path: Path, form: str) -> None:
    family, architecture, changes = FORMS[form]
    model = save_model(tmp_path / "original", family, **changes)
    convert(open_gguf(write_gguf(tmp_path / "tiny.gguf", model, architecture)), tmp_path / "converted")
    converted = load_file(tmp_path / "converted" / "model.safetensors")
    original = load_file(tmp_path / "original" / "model.safetensors")
    assert converted.keys() == original.keys()
    for name, tensor in original.items():
        assert torch.equal(converted[name], tensor.bfloat16()), name


@pytest.mark.parametrize("form", list(FORMS))
def test_a_converted_model_runs_as_the_original_does(tmp_path: Path, form: str) -> None:
    family, architecture, changes = FORMS[form]
    model = save_model(tmp_path / "original", family, **changes)
    convert(open_gguf(write_gguf(tmp_path / "tiny.gguf", model, architecture)), tmp_path / "converted")
    tokens = prompt(50)
    ours = whole(load(tmp_path / "converted"), tokens, in_a_row(4))
    for parameter in model.parameters():  # but not its rotary frequencies
        parameter.data = parameter.data.bfloat16().float()
    torch.testing.assert_close(ours, reference_logits(model, tokens), rtol=1e-4, atol=2e-4)


def test_the_directory_says_what_the_header_said(tmp_path: Path) -> None:
    model = save_model(tmp_path / "original", "Qwen2")
    done: list[tuple[int, int]] = []
    path = write_gguf(tmp_path / "tiny.gguf", model, "qwen2")
    convert(open_gguf(path), tmp_path / "converted", on_progress=lambda *progress: done.append(progress))
    config = json.loads((tmp_path / "converted" / "config.json").read_text())
    assert (config["model_type"], config["rms_norm_eps"], config["rope_theta"]) == ("qwen2", 1e-5, 10000.0)
    assert (config["vocab_size"], config["tie_word_embeddings"], config["torch_dtype"]) == (131, False, "bfloat16")
    generation = json.loads((tmp_path / "converted" / "generation_config.json").read_text())
    assert (generation["bos_token_id"], generation["eos_token_id"]) == (1, 2)
    assert done[-1] == (len(done), len(done))


@pytest.mark.parametrize(("kind", "error"), [("F16", 1e-3), ("Q8_0", 0.01), ("Q4_1", 0.1), ("BF16", 1e-2)])
def test_quantised_weights_come_out_near_to_what_they_were(tmp_path: Path, kind: str, error: float) -> None:
    model = save_model(tmp_path / "original", "Llama", hidden_size=96, num_attention_heads=6, intermediate_size=64)
    convert(open_gguf(write_gguf(tmp_path / "tiny.gguf", model, "llama", quantise=kind)), tmp_path / "converted")
    converted = load_file(tmp_path / "converted" / "model.safetensors")
    for name, tensor in model.state_dict().items():
        assert float((converted[name].float() - tensor).abs().max()) < error * float(tensor.abs().max()) + 0.005, name


def test_llama_3s_factors_are_recognised(tmp_path: Path) -> None:
    from engine.llama.gguf_config import LLAMA3 as KNOWN
    from engine.llama.gguf_config import GgufHeader, config_of

    rope: dict[str, Any] = LLAMA3 | KNOWN
    model = save_model(tmp_path, "Llama", head_dim=32, rope_parameters=rope, max_position_embeddings=16384)
    plain = 1 / rope["rope_theta"] ** (np.arange(0, 32, 2) / 32)
    factors = tuple((plain / model.model.rotary_emb.inv_freq.numpy()).tolist())
    fields = {
        "general.architecture": "llama",
        "llama.attention.head_count": 3,
        "llama.attention.head_count_kv": 1,
        "llama.attention.key_length": 32,
        "llama.attention.layer_norm_rms_epsilon": np.float32(1e-5),
        "llama.embedding_length": 48,
        "llama.feed_forward_length": 80,
        "llama.block_count": 3,
        "llama.context_length": 16384,
        "llama.rope.freq_base": 500000.0,
    }
    header = GgufHeader("tiny", fields, frozenset(), 131, factors)
    assert config_of(header)["rope_scaling"] == {key: rope[key] for key in ("rope_type", "factor", *KNOWN)}
    with pytest.raises(UnsupportedModel, match="not Llama 3's"):
        config_of(GgufHeader("tiny", fields, frozenset(), 131, tuple(f + 0.1 for f in factors)))


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"GGUF", b"something else entirely" * 10):
        (tmp_path / "x.gguf").write_bytes(content)
        with pytest.raises(EngineError, match="can't be read as a GGUF file"):
            open_gguf(tmp_path / "x.gguf")


def test_what_this_engine_does_not_run_is_refused_by_name(tmp_path: Path) -> None:
    model = save_model(tmp_path / "original", "Llama")
    with pytest.raises(UnsupportedModel, match="tiny has the architecture gemma"):
        convert(open_gguf(write_gguf(tmp_path / "a.gguf", model, "gemma")), tmp_path / "out")
    with pytest.raises(UnsupportedModel, match="tiny is a mixture of experts"):
        convert(
            open_gguf(write_gguf(tmp_path / "b.gguf", model, "llama", fields={"expert_count": 8})), tmp_path / "out"
        )
    with pytest.raises(UnsupportedModel, match="rotates only a part of each head"):
        convert(
            open_gguf(write_gguf(tmp_path / "c.gguf", model, "llama", fields={"rope.dimension_count": 8})),
            tmp_path / "out",
        )
    with pytest.raises(UnsupportedModel, match="no token embedding"):
        convert(open_gguf(write_gguf(tmp_path / "d.gguf", model, "llama", drop="token_embd.weight")), tmp_path / "out")


def test_a_weight_that_the_file_lacks_is_named_before_anything_is_written(tmp_path: Path) -> None:
    model = save_model(tmp_path / "original", "Llama")
    path = write_gguf(tmp_path / "a.gguf", model, "llama", drop="blk.1.ffn_up.weight")
    with pytest.raises(EngineError, match=r"no weight model\.layers\.1\.mlp\.up_proj\.weight"):
        convert(open_gguf(path), tmp_path / "out")
    assert not (tmp_path / "out").exists()
