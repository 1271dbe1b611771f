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

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class Family:
    """What transformers 5.24 takes where a config.json of this model_type says nothing.

    kv_heads, head_dim: None is the number of heads, and hidden_size over it, which then may also be null.
    """

    architecture: str
    context: int
    kv_heads: int | None = None
    head_dim: int | None = None


FAMILIES = {
    "llama": Family("LlamaForCausalLM", 2048),
    "mistral": Family("MistralForCausalLM", 131072, kv_heads=8),
    "qwen2": Family("Qwen2ForCausalLM", 32768, kv_heads=32),
    "qwen3": Family("Qwen3ForCausalLM", 32768, kv_heads=32, head_dim=128),
}
"""By model_type. SmolLM and SmolLM2 are Llamas."""


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
    """A decoder of the Llama family. Sizes as in config.json; all projections without bias but those named.

    dtype: empty where it is not said; then that of the stored weights is meant.
    """

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
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EngineError(f"{directory} is no model directory: {path.name} can't be read ({error.strerror})") from error
    except ValueError as error:
        raise EngineError(f"{path} is no JSON{lfs_pointer(path) or f': {error}'}") from error
    if not isinstance(document, dict):
        raise EngineError(f"{path} holds no object")
    return parse_config(directory.name, document)


def lfs_pointer(path: Path) -> str:
    """What to add to a sentence about a file that Git left in place of a large one; else nothing."""
    try:
        with path.open("rb") as file:
            found = file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return ""
    return ": it is a Git LFS pointer (git lfs pull fetches it)" if found else ""


def parse_config(name: str, document: Mapping[str, Any]) -> ModelConfig:
    """``document`` is what config.json holds. Raises UnsupportedModel with what is not run here, EngineError for
    what is missing or no number."""
    model_type = str(document.get("model_type"))
    _require(name, model_type in FAMILIES, f"its type {model_type!r} is not one of {', '.join(FAMILIES)}")
    architectures = document.get("architectures") or [FAMILIES[model_type].architecture]
    known = FAMILIES[model_type].architecture in architectures
    _require(name, known, f"its architecture {architectures[0]!r} is no causal decoder")
    _require(name, not document.get("num_experts") and not document.get("num_local_experts"), "mixtures of experts")
    _require(name, document.get("quantization_config") is None, "quantised weights")
    activation = document.get("hidden_act", "silu")
    _require(name, activation in ("silu", "swish"), f"the activation {activation!r}")
    try:
        _require(name, not _flag(document, "mlp_bias"), "biases in its MLP")
        return _parse(name, model_type, document)
    except KeyError as error:
        raise EngineError(f"{name}: config.json has no {error.args[0]}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise EngineError(f"{name}: config.json holds something of a wrong type: {error}") from error


def _parse(name: str, model_type: str, document: Mapping[str, Any]) -> ModelConfig:
    family = FAMILIES[model_type]
    heads, hidden = _size(document, "num_attention_heads"), _size(document, "hidden_size")
    kv_heads = _size(document, "num_key_value_heads", family.kv_heads, heads)
    head_dim = _size(document, "head_dim", family.head_dim, hidden // heads)
    _require(name, heads % kv_heads == 0, f"{heads} query heads over {kv_heads} key/value heads")
    _require(name, head_dim % 2 == 0, f"heads of {head_dim} dimensions, which can't be rotated in pairs")
    longest = _size(document, "max_position_embeddings", family.context)
    biased = _flag(document, "attention_bias")
    return ModelConfig(
        name=name,
        hidden_size=hidden,
        intermediate_size=_size(document, "intermediate_size"),
        layers=_size(document, "num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=_size(document, "vocab_size"),
        max_position_embeddings=_without_windows(name, model_type, document, longest),
        rms_norm_eps=_number(document, "rms_norm_eps", 1e-6),
        rope=_rope(name, document, longest),
        tied=_flag(document, "tie_word_embeddings"),
        # Qwen2 always has them, and none behind its attention; Mistral never has any; the others as they say.
        qkv_bias=model_type == "qwen2" or (biased and model_type != "mistral"),
        output_bias=biased and model_type in ("llama", "qwen3"),
        qk_norm=model_type == "qwen3",
        dtype=str(document.get("dtype") or document.get("torch_dtype") or ""),
    )


def _size(document: Mapping[str, Any], key: str, default: int | None = None, computed: int | None = None) -> int:
    """A whole number above 0. What is missing is the default; without one that, and null, is what was computed."""
    value = document.get(key, default) if computed is not None or default is not None else document[key]
    if value is None and default is None:
        value = computed
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key} is {value!r}, not a whole number above 0")
    return value


def _number(document: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = document[key] if default is None else document.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} is {value!r}, not a number")
    return float(value)


def _flag(document: Mapping[str, Any], key: str) -> bool:
    """False where it is missing. The text "false" is no flag: Python takes it for true."""
    value = document.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{key} is {value!r}, neither true nor false")
    return value


def _require(name: str, holds: bool, what: str) -> None:
    if not holds:
        raise UnsupportedModel(f"{name} is not supported: {what}")


def _without_windows(name: str, model_type: str, document: Mapping[str, Any], longest: int) -> int:
    """The context; a sliding window is fine only where no sequence could outgrow it.

    What is not said means what it means to transformers: Mistral's layers all have a window of
    4,096 tokens unless it is null, Qwen's have one where ``use_sliding_window`` says so, Llama's none.
    """
    types = document.get("layer_types")
    layers = _size(document, "num_hidden_layers")
    if types is not None and model_type != "mistral":  # whose layers are all alike, whatever is listed
        _require(name, len(types) == layers, f"{len(types)} layer_types for {layers} layers")
        others = sorted(set(types) - {"full_attention", "sliding_attention"})
        _require(name, not others, f"layers of type {', '.join(map(repr, others))}")
        windowed = "sliding_attention" in types
    elif model_type == "mistral":
        windowed = True
    else:
        windowed = _flag(document, "use_sliding_window") and document.get("max_window_layers", 28) < layers
    window = document.get("sliding_window", 4096)
    if window is not None and windowed:
        _require(name, int(window) >= longest, f"sliding-window attention (a window of {window} tokens)")
    return longest


def _rope(name: str, document: Mapping[str, Any], longest: int) -> Rope:
    """Where several fields say the same, as in transformers 5.24: ``rope_scaling``, if it is not empty, before all of
    ``rope_parameters``; in either ``rope_type`` before ``type``; and what stands inside before what stands at the top.
    """
    scaling = document.get("rope_scaling") or document.get("rope_parameters") or {}
    nested = [key for key, value in scaling.items() if isinstance(value, Mapping)]
    _require(name, not nested, f"rotary embeddings that differ between layers ({', '.join(nested)})")
    told = {key: document[key] for key in ("rope_theta", "partial_rotary_factor") if key in document} | scaling
    theta, partial = _number(told, "rope_theta", 10000.0), _number(told, "partial_rotary_factor", 1.0)
    kind = str(scaling.get("rope_type", scaling.get("type", "default")))
    _require(name, kind in ("default", "linear", "llama3"), f"rotary embeddings of type {kind!r}")
    _require(name, math.isclose(partial, 1.0), f"rotary embeddings over a part ({partial}) of each head")
    if kind == "default":
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, kind, _number(scaling, "factor"))
    return Rope(
        theta=theta,
        kind=kind,
        factor=_number(scaling, "factor"),
        low_freq_factor=_number(scaling, "low_freq_factor"),
        high_freq_factor=_number(scaling, "high_freq_factor"),
        original_max_position_embeddings=_size(scaling, "original_max_position_embeddings", longest),
    )
