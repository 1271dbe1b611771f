"""What a ``config.json`` asks for, as one value; whatever this engine does not run is refused by name.

A refusal is better than text that is almost right: every field that would change the
arithmetic is either understood here or named in an UnsupportedModel.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.port import EngineError, UnsupportedModel

FAMILIES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""model_type -> architecture. SmolLM and SmolLM2 are Llamas."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary embedding: kind is default, linear or llama3; the other fields are that kind's parameters."""

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A decoder of the Llama family. Sizes as in config.json; all projections without bias but those named."""

    name: str
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope: Rope
    tied: bool
    qkv_bias: bool
    output_bias: bool
    qk_norm: bool
    dtype: str

    @property
    def group(self) -> int:
        """Query heads per key/value head."""
        return self.heads // self.kv_heads


def read_config(directory: Path) -> ModelConfig:
    """The configuration of the model in a Hugging Face directory. Raises EngineError, UnsupportedModel."""
    path = directory / "config.json"
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise EngineError(f"{directory} is no model directory: {path.name} can't be read ({error.strerror})") from error
    except ValueError as error:
        raise EngineError(f"{path} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise EngineError(f"{path} holds no object")
    return parse_config(directory.name, document)


def parse_config(name: str, document: Mapping[str, Any]) -> ModelConfig:
    """``document`` is what config.json holds. Raises UnsupportedModel with what is not run here, EngineError for
    what is missing or no number."""
    model_type = str(document.get("model_type"))
    _require(name, model_type in FAMILIES, f"its type {model_type!r} is not one of {', '.join(FAMILIES)}")
    architectures = document.get("architectures") or [FAMILIES[model_type]]
    _require(name, FAMILIES[model_type] in architectures, f"its architecture {architectures[0]!r} is no causal decoder")
    _require(name, not document.get("num_experts") and not document.get("num_local_experts"), "mixtures of experts")
    _require(name, document.get("quantization_config") is None, "quantised weights")
    activation = document.get("hidden_act") or "silu"
    _require(name, activation in ("silu", "swish"), f"the activation {activation!r}")
    _require(name, not document.get("mlp_bias"), "biases in its MLP")
    try:
        return _parse(name, model_type, document)
    except KeyError as error:
        raise EngineError(f"{name}: config.json has no {error.args[0]}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise EngineError(f"{name}: config.json holds something of a wrong type: {error}") from error


def _parse(name: str, model_type: str, document: Mapping[str, Any]) -> ModelConfig:
    heads, hidden = int(document["num_attention_heads"]), int(document["hidden_size"])
    kv_heads = int(document.get("num_key_value_heads") or heads)
    head_dim = int(document.get("head_dim") or hidden // heads)
    _require(name, heads % kv_heads == 0, f"{heads} query heads over {kv_heads} key/value heads")
    _require(name, head_dim % 2 == 0, f"heads of {head_dim} dimensions, which can't be rotated in pairs")
    longest = int(document.get("max_position_embeddings") or 2048)
    biased = bool(document.get("attention_bias"))
    return ModelConfig(
        name=name,
        hidden_size=hidden,
        intermediate_size=int(document["intermediate_size"]),
        layers=int(document["num_hidden_layers"]),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=int(document["vocab_size"]),
        max_position_embeddings=_without_windows(name, model_type, document, longest),
        rms_norm_eps=float(document.get("rms_norm_eps", 1e-6)),
        rope=_rope(name, document, longest),
        tied=bool(document.get("tie_word_embeddings", False)),
        # Qwen2 always has them, and none behind its attention; Mistral never has any; the others as they say.
        qkv_bias=model_type == "qwen2" or (biased and model_type != "mistral"),
        output_bias=biased and model_type in ("llama", "qwen3"),
        qk_norm=model_type == "qwen3",
        dtype=str(document.get("dtype") or document.get("torch_dtype") or "bfloat16"),
    )


def _require(name: str, holds: bool, what: str) -> None:
    if not holds:
        raise UnsupportedModel(f"{name} is not supported: {what}")


def _without_windows(name: str, model_type: str, document: Mapping[str, Any], longest: int) -> int:
    """The context; a sliding window is fine only where no sequence could outgrow it.

    What is not said means what it means to transformers: Mistral's layers all have a window of
    4,096 tokens unless it is null, Qwen's have one where ``use_sliding_window`` says so, Llama's none.
    """
    types = document.get("layer_types")
    if types:
        others = sorted(set(types) - {"full_attention", "sliding_attention"})
        _require(name, not others, f"layers of type {', '.join(map(repr, others))}")
        windowed = "sliding_attention" in types
    elif model_type == "mistral":
        windowed = True
    else:
        first = int(document.get("max_window_layers", 28))
        windowed = bool(document.get("use_sliding_window")) and first < int(document["num_hidden_layers"])
    window = document.get("sliding_window", 4096)
    if window is not None and windowed:
        _require(name, int(window) >= longest, f"sliding-window attention (a window of {window} tokens)")
    return longest


def _rope(name: str, document: Mapping[str, Any], longest: int) -> Rope:
    """rope_theta and rope_scaling, or both in rope_parameters as newer configurations have them."""
    parameters = document.get("rope_parameters") or {}
    scaling = document.get("rope_scaling") or parameters
    theta = float(document.get("rope_theta") or parameters.get("rope_theta") or 10000.0)
    kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
    _require(name, kind in ("default", "linear", "llama3"), f"rotary embeddings of type {kind!r}")
    partial = float(document.get("partial_rotary_factor") or parameters.get("partial_rotary_factor") or 1.0)
    _require(name, math.isclose(partial, 1.0), f"rotary embeddings over a part ({partial}) of each head")
    if kind == "default":
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, kind, float(scaling["factor"]))
    return Rope(
        theta=theta,
        kind=kind,
        factor=float(scaling["factor"]),
        low_freq_factor=float(scaling["low_freq_factor"]),
        high_freq_factor=float(scaling["high_freq_factor"]),
        original_max_position_embeddings=int(scaling.get("original_max_position_embeddings") or longest),
    )
