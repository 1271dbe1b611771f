"""A config.json means what transformers makes of it, also where one thing is said twice, or nothing of it.

Seen with transformers 5.24.0, and compared with the one that is installed: what it refuses is refused here.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from engine.llama.config import ModelConfig, Rope, parse_config
from engine.port import EngineError, UnsupportedModel
from tests.engine.llama.driving import load
from tests.field.models import Tiny, write_directory

BASE = Tiny().config() | {"num_key_value_heads": 2, "num_hidden_layers": 2}
MINIMAL = {
    key: value
    for key, value in BASE.items()
    if key
    not in (
        "rope_theta",
        "num_key_value_heads",
        "max_position_embeddings",
        "rms_norm_eps",
        "dtype",
        "tie_word_embeddings",
    )
}
LINEAR = {"rope_type": "linear", "factor": 2.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
DEFAULT = {"rope_type": "default"}

CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "theta at the top and in rope_parameters": {"rope_theta": 1e6, "rope_parameters": DEFAULT | {"rope_theta": 5e5}},
    "theta at the top, rope_parameters without": {"rope_theta": 1e6, "rope_parameters": DEFAULT},
    "rope_scaling beside rope_parameters": {"rope_scaling": LINEAR, "rope_parameters": DEFAULT | {"rope_theta": 5e5}},
    "rope_scaling beside other parameters": {"rope_scaling": LINEAR, "rope_parameters": LINEAR | {"factor": 4.0}},
    "theta at the top and in rope_scaling": {"rope_theta": 1e6, "rope_scaling": LINEAR | {"rope_theta": 3.0}},
    "rope_parameters are null": {"rope_scaling": LINEAR, "rope_parameters": None},
    "rope_parameters are empty": {"rope_scaling": LINEAR, "rope_parameters": {}},
    "rope_scaling is null": {"rope_scaling": None, "rope_parameters": LINEAR | {"rope_theta": 5e5}},
    "rope_scaling is empty": {"rope_scaling": {}, "rope_parameters": LINEAR | {"rope_theta": 5e5}},
    "the type by its old name": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "both names of the type": {"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 2.0}},
    "both names of the type, exchanged": {"rope_scaling": {"type": "default", "rope_type": "linear", "factor": 2.0}},
    "the whole head rotated, said twice": {
        "partial_rotary_factor": 0.5,
        "rope_parameters": DEFAULT | {"rope_theta": 1e4, "partial_rotary_factor": 1.0},
    },
    "llama3 without its original context": {"rope_scaling": LLAMA3},
    "llama3, the original context at the top": {"rope_scaling": LLAMA3, "original_max_position_embeddings": 64},
    "llama3, the original context twice": {
        "rope_scaling": LLAMA3 | {"original_max_position_embeddings": 128},
        "original_max_position_embeddings": 64,
    },
    "theta is a whole number": {"rope_theta": 500000},
    "dtype by both names": {"dtype": "float32", "torch_dtype": "bfloat16"},
    "dtype null, its old name not": {"dtype": None, "torch_dtype": "float16"},
    "dtype by its old name": {"dtype": None, "torch_dtype": "bfloat16"},
    "head_dim beside other sizes": {"head_dim": 32},
    "head_dim is null": {"head_dim": None},
    "no KV heads said": {"num_key_value_heads": None},
    "tied": {"tie_word_embeddings": True},
    "a text_config inside": {"text_config": {"hidden_size": 32, "rope_theta": 3.0, "tie_word_embeddings": True}},
    "end ids as a list": {"eos_token_id": [1, 2]},
    "Mistral with layer_types": {
        "model_type": "mistral",
        "layer_types": ["sliding_attention"] * 2,
        "sliding_window": None,
    },
    "Qwen2 with a window that is off": {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 8},
    "Qwen3 with a size of heads": {"model_type": "qwen3", "head_dim": 32},
    "a window of a Llama": {"sliding_window": 8},
    # What transformers refuses.
    "KV heads of a Mistral are null": {"model_type": "mistral", "num_key_value_heads": None},
    "heads of a Qwen3 are null": {"model_type": "qwen3", "head_dim": None},
    "tied is null": {"tie_word_embeddings": None},
    "tied is a text": {"tie_word_embeddings": "false"},
    "a context of null": {"max_position_embeddings": None},
    "a context with a point": {"max_position_embeddings": 4096.0},
    "an epsilon of null": {"rms_norm_eps": None},
    "an epsilon that is a text": {"rms_norm_eps": "1e-5"},
    "an activation of null": {"hidden_act": None},
    "heads that are a text": {"num_attention_heads": "4"},
    "layer_types that are too many": {"model_type": "qwen3", "layer_types": ["full_attention"] * 3},
    "a dtype of torch": {"dtype": "torch.bfloat16"},
    "a bias that is a text": {"attention_bias": "no"},
}


def document(changes: dict[str, Any]) -> dict[str, Any]:
    whole = BASE | changes
    if "model_type" in changes:
        del whole["architectures"]
    return whole


def theirs(path: Path, content: dict[str, Any]) -> Any:
    """The configuration that transformers reads, or None where it refuses."""
    (path / "config.json").write_text(json.dumps(content))
    try:
        return transformers.AutoConfig.from_pretrained(path)
    except Exception:  # of several kinds, strict dataclasses' own among them
        return None


def assert_same(ours: ModelConfig, other: Any) -> None:
    rope: dict[str, Any] = other.rope_parameters
    assert (ours.rope.kind, ours.rope.theta) == (rope["rope_type"], rope["rope_theta"])
    if ours.rope.kind != "default":
        assert ours.rope.factor == rope["factor"]
    if ours.rope.kind == "llama3":
        assert ours.rope.original_max_position_embeddings == rope["original_max_position_embeddings"]
    head_dim = getattr(other, "head_dim", None) or other.hidden_size // other.num_attention_heads
    assert (ours.heads, ours.kv_heads, ours.head_dim) == (
        other.num_attention_heads,
        other.num_key_value_heads,
        head_dim,
    )
    assert (ours.tied, ours.rms_norm_eps) == (other.tie_word_embeddings, other.rms_norm_eps)
    assert ours.max_position_embeddings == other.max_position_embeddings
    assert ours.dtype == ("" if other.dtype is None else str(other.dtype).removeprefix("torch."))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("row", list(CHANGES))
def test_a_configuration_means_what_transformers_takes(tmp_path: Path, row: str) -> None:
    content = document(CHANGES[row])
    other = theirs(tmp_path, content)
    if other is None:
        with pytest.raises(EngineError) as refused:
            load(tmp_path, dtype="auto")
        assert "safetensors" not in str(refused.value)
    else:
        assert_same(parse_config("m", content), other)


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
def test_what_is_not_said_is_what_transformers_takes(tmp_path: Path, model_type: str) -> None:
    heads = {"num_attention_heads": 32, "hidden_size": 2048}  # as many as some families take key/value heads by default
    window = {"sliding_window": None} if model_type == "mistral" else {}
    content = MINIMAL | heads | window | {"model_type": model_type, "architectures": None}
    assert_same(parse_config("m", content), theirs(tmp_path, content))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "theta is null": ({"rope_theta": None}, "rope_theta is None, not a number"),
    "theta is null in rope_parameters": ({"rope_parameters": DEFAULT | {"rope_theta": None}}, "rope_theta is None"),
    "theta is a text": ({"rope_theta": "500000"}, "rope_theta is '500000', not a number"),
    "a factor that is a text": ({"rope_scaling": LINEAR | {"factor": "2"}}, "factor is '2', not a number"),
    "rope by kind of layer": (
        {"rope_parameters": {"full_attention": DEFAULT | {"rope_theta": 5.0}}},
        r"rotary embeddings that differ between layers \(full_attention\)",
    ),
    "a part of each head in rope_parameters": (
        {"rope_parameters": DEFAULT | {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        r"over a part \(0.5\) of each head",
    ),
    "Mistral's windows beside layer_types": (
        {"model_type": "mistral", "layer_types": ["full_attention"] * 2, "sliding_window": 16},
        "a window of 16 tokens",
    ),
    "heads of nothing": ({"head_dim": 0}, "head_dim is 0, not a whole number above 0"),
    "no KV heads": ({"num_key_value_heads": 0}, "num_key_value_heads is 0"),
    "layers by another name": ({"num_hidden_layers": ..., "num_layers": 2}, "config.json has no num_hidden_layers"),
}


@pytest.mark.parametrize("row", list(REFUSED))
def test_what_transformers_reads_but_can_not_run_right_is_refused(row: str) -> None:
    changes, named = REFUSED[row]
    content = {key: value for key, value in document(changes).items() if value is not ...}
    with pytest.raises(EngineError, match=named):
        parse_config("m", content)


def test_of_a_key_that_stands_twice_in_the_file_the_last_counts(tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "model")
    text = (directory / "config.json").read_text().replace('"rope_theta"', '"rope_theta": 7.0, "rope_theta"')
    (directory / "config.json").write_text(text)
    assert load(directory).config.rope == Rope(
        transformers.AutoConfig.from_pretrained(directory).rope_parameters["rope_theta"]
    )


@pytest.mark.parametrize(("said", "taken"), [(None, "float32"), ("bfloat16", "bfloat16")])
def test_a_dtype_that_is_not_said_is_that_of_the_weights(tmp_path: Path, said: str | None, taken: str) -> None:
    directory = write_directory(tmp_path / "model", config={"dtype": said})
    assert load(directory, dtype="auto").dtype == taken


def test_a_mixture_is_refused_whatever_else_is_said() -> None:
    with pytest.raises(UnsupportedModel, match="mixtures of experts"):
        parse_config("m", document({"num_local_experts": 8}))
