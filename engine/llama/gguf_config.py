"""What a GGUF header says, as a Hugging Face ``config.json`` and ``generation_config.json``.

Pure: a header in, dictionaries out. Floats were stored in 32 bits; they come out as the
shortest decimal that gives those bits again (1e-05, not 9.999999747378752e-06).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.port import UnsupportedModel

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
"""GGUF calls Mistral and SmolLM2 ``llama`` too."""

LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""Of every Llama 3.1, 3.2 and 3.3; GGUF keeps only the factors that follow from them, which are checked."""


UNDERSTOOD = frozenset(
    [
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "expert_count",
        "expert_used_count",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "attention.layer_norm_rms_epsilon",
        "attention.sliding_window",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scale_linear",
        "rope.scaling.type",
        "rope.scaling.factor",
        "rope.scaling.original_context_length",
        "rope.scaling.finetuned",
        "vocab_size",
        "tensor_data_layout",
    ]
)
"""Keys of an architecture that are read here, or say nothing that changes the arithmetic."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """name: for people. fields: metadata by key. tensors: the names there are. rope_factors: llama.cpp's divisors of
    each RoPE frequency, [head_dim / 2], where it has them."""

    name: str
    fields: Mapping[str, Any]
    tensors: frozenset[str]
    vocab_size: int
    rope_factors: tuple[float, ...] | None = None

    @property
    def architecture(self) -> str:
        return str(self.fields.get("general.architecture"))

    def get(self, key: str) -> Any:
        """The value of the architecture's own key, or None."""
        return self.fields.get(f"{self.architecture}.{key}")

    def need(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise UnsupportedModel(f"{self.name} does not say its {self.architecture}.{key}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A value that was stored as float32. Raises UnsupportedModel where it is missing or no number."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        try:
            return shortest(self.need(key))
        except (TypeError, ValueError) as error:
            raise UnsupportedModel(f"{self.name}: {self.architecture}.{key} is no number") from error

    def count(self, key: str, default: int | None = None) -> int:
        """A size; one for each layer is fine if all are the same. Raises UnsupportedModel where it can't be had."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        value = self.need(key)
        if isinstance(value, list):
            layers = self.count("block_count")
            if len(value) != layers:
                raise UnsupportedModel(
                    f"{self.name}: {self.architecture}.{key} has {len(value)} values for {layers} layers"
                )
            if len(set(value)) > 1:
                found = ", ".join(map(str, sorted(set(value))))
                raise UnsupportedModel(f"{self.name} has layers that differ in {self.architecture}.{key} ({found})")
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, int):
            raise UnsupportedModel(f"{self.name}: {self.architecture}.{key} is no whole number")
        if value < (1 if default != 0 else 0):
            raise UnsupportedModel(f"{self.name}: {self.architecture}.{key} is {value}, which this engine does not run")
        return value


def shortest(value: float) -> float:
    """The float64 nearest to the shortest decimal that names this float32."""
    return float(str(np.float32(value)))


def config_of(header: GgufHeader) -> dict[str, Any]:
    """The ``config.json``. Raises UnsupportedModel with the reason."""
    if header.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UnsupportedModel(f"{header.name} has the architecture {header.architecture}; this engine runs {known}")
    if header.get("expert_count"):
        raise UnsupportedModel(f"{header.name} is a mixture of experts, which this engine does not run")
    _check_keys(header)
    heads, hidden, context = (
        header.count(key) for key in ("attention.head_count", "embedding_length", "context_length")
    )
    head_dim = header.count("attention.key_length", hidden // heads)
    if header.count("rope.dimension_count", head_dim) != head_dim:
        raise UnsupportedModel(f"{header.name} rotates only a part of each head, which this engine does not run")
    if header.count("attention.value_length", head_dim) != head_dim:
        raise UnsupportedModel(f"{header.name} has values of another size than keys, which this engine does not run")
    window = header.count("attention.sliding_window", 0)
    if 0 < window < context:
        raise UnsupportedModel(f"{header.name} has sliding-window attention (a window of {window} tokens)")
    tokens = header.fields.get("tokenizer.ggml.tokens")
    if tokens is not None and len(tokens) != header.vocab_size:
        raise UnsupportedModel(f"{header.name} has {len(tokens)} tokens, but an embedding of {header.vocab_size}")
    return {
        "architectures": [ARCHITECTURES[header.architecture]],
        "model_type": header.architecture,
        "hidden_size": hidden,
        "intermediate_size": header.count("feed_forward_length"),
        "num_hidden_layers": header.count("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": header.count("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": header.number("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": context,
        "rope_theta": header.number("rope.freq_base", 10000.0),
        "rope_scaling": _rope_scaling(header, head_dim),
        "attention_bias": "blk.0.attn_q.bias" in header.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in header.tensors,
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "vocab_size": header.vocab_size,
        "torch_dtype": "bfloat16",
        **_token_ids(header),
    }


def special_token_id(fields: Mapping[str, Any], kind: str, tokens: int) -> int | None:
    """The id of the token with that role (``bos``, ``eos``, ``unknown`` ..), or None.

    A file that names none, or one beyond its vocabulary, has SentencePiece's own in llama.cpp: 1, 2 and 0. (Its
    default for byte-level vocabularies, 11, is Falcon's and is not taken over.)
    """
    value = fields.get(f"tokenizer.ggml.{kind}_token_id")
    if isinstance(value, int) and 0 <= value < tokens:
        return value
    usual = {"bos": 1, "eos": 2, "unknown": 0} if fields.get("tokenizer.ggml.model") == "llama" else {}
    id_ = usual.get(kind)
    return id_ if id_ is not None and id_ < tokens else None


def _check_keys(header: GgufHeader) -> None:
    """Whatever the file says of the architecture is understood here, has no effect, or is refused by name."""
    prefix = f"{header.architecture}."
    for key, value in header.fields.items():
        if not key.startswith(prefix) or key.removeprefix(prefix) in UNDERSTOOD:
            continue
        neutral = [1] if key.endswith("causal") else [0, 1] if key.endswith(("scale", "factor")) else [0, "", []]
        if value not in neutral:
            raise UnsupportedModel(f"{header.name} has {key} = {value!r:.60}, which this engine does not know")


def generation_config_of(header: GgufHeader) -> dict[str, Any]:
    """The ``generation_config.json``: ids only; GGUF has no sampling defaults. Several end ids make a list."""
    return _token_ids(header)


def _token_ids(header: GgufHeader) -> dict[str, Any]:
    def of(kind: str) -> int | None:
        return special_token_id(header.fields, kind, header.vocab_size)

    ends = list(dict.fromkeys(token for kind in ("eos", "eot", "eom") if (token := of(kind)) is not None))
    ids = {
        "bos_token_id": of("bos"),
        "eos_token_id": ends[0] if len(ends) == 1 else ends,
        "pad_token_id": of("padding"),
    }
    return {key: value for key, value in ids.items() if value not in (None, [])}


def _rope_scaling(header: GgufHeader, head_dim: int) -> dict[str, Any] | None:
    """As llama.cpp reads it: linear where no type is named, ``rope.scale_linear`` is the factor's old name, 0 is 1."""
    kind = str(header.get("rope.scaling.type") or "linear")
    factor = (header.number("rope.scaling.factor", 0.0) or header.number("rope.scale_linear", 0.0)) or 1.0
    if header.rope_factors is not None:
        if kind != "none" and factor != 1.0:
            raise UnsupportedModel(f"{header.name} scales its RoPE twice, by {kind} and by rope_freqs.weight")
        return _llama3(header, head_dim)
    match kind:
        case "none":
            return None
        case "linear":
            return None if factor == 1.0 else {"rope_type": "linear", "factor": factor}
    raise UnsupportedModel(f"{header.name} has the RoPE scaling {kind}, which this engine does not run")


def _llama3(header: GgufHeader, head_dim: int) -> dict[str, Any]:
    """Find the scaling whose factors these are: the largest one is its ``factor``, the rest is the same for all."""
    factors = header.rope_factors
    assert factors is not None
    scaling = {"rope_type": "llama3", "factor": shortest(max(factors)), **LLAMA3}
    expected = _llama3_factors(scaling, header.number("rope.freq_base", 10000.0), head_dim)
    if len(expected) != len(factors) or not np.allclose(expected, factors, rtol=1e-3):
        raise UnsupportedModel(f"{header.name} has RoPE factors that are not Llama 3's, which this engine does not run")
    return scaling


def _llama3_factors(scaling: Mapping[str, Any], theta: float, head_dim: int) -> list[float]:
    """What each frequency is divided by; as llama.cpp's converter computes it."""
    original = scaling["original_max_position_embeddings"]
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    divisors = []
    for pair in range(head_dim // 2):
        turns = original / (2 * math.pi * theta ** (2 * pair / head_dim))
        if turns > high:
            divisors.append(1.0)
        elif turns < low:
            divisors.append(factor)
        else:
            smooth = (turns - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return divisors
