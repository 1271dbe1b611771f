"""Turn a GGUF file into a Hugging Face model directory, bf16, once.

Writes ``config.json``, ``generation_config.json`` and ``model.safetensors``; the tokenizer's
files are the caller's, and so is atomicity: give a fresh directory and rename it when
everything is in it. Tensors go through one at a time, so memory stays at the size of the
largest. Needs no torch.

llama.cpp reorders the rows of Q and K of the ``llama`` architecture for its interleaved
RoPE; they are put back here, so that the files equal what was converted to GGUF, but for
the quantisation.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.llama.checkpoint import check_whole
from engine.llama.config import parse_config
from engine.llama.gguf_config import GgufHeader, config_of, generation_config_of
from engine.llama.gguf_parts import GgufModel
from engine.port import EngineError, UnsupportedModel

Progress = Callable[[int, int], None]
"""Called with the tensors done and the tensors there are."""

OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NOT_WEIGHTS = ("rope_freqs.weight",)
"""Read by the configuration, which carries them as ``rope_scaling``."""


def convert(model: GgufModel, out_dir: Path, *, on_progress: Progress | None = None) -> None:
    """Write the model into ``out_dir``, which is made if it is missing.

    Raises UnsupportedModel for an architecture, tensor or quantisation that is not known
    here, and EngineError for a model that is not whole.
    """
    header = _header(model)
    config = config_of(header)
    tensors = {
        renamed: tensor for name, tensor in model.tensors.items() if (renamed := hugging_face_name(name, model.name))
    }
    check_whole(parse_config(model.name, config), {name: _shape(tensor) for name, tensor in tensors.items()})
    out_dir.mkdir(parents=True, exist_ok=True)
    for file_name, content in (("config.json", config), ("generation_config.json", generation_config_of(header))):
        (out_dir / file_name).write_text(json.dumps(content, indent=2) + "\n")
    _write_safetensors(out_dir / "model.safetensors", sorted(tensors.items()), config, model.name, on_progress)


def hugging_face_name(name: str, model: str) -> str:
    """The tensor's name in a Hugging Face checkpoint; empty for one that is not a weight."""
    if name in NOT_WEIGHTS:
        return ""
    if name in OUTER:
        return OUTER[name]
    match name.split("."):
        case ["blk", layer, part, kind] if part in INNER and kind in ("weight", "bias"):
            return f"model.layers.{layer}.{INNER[part]}.{kind}"
    raise UnsupportedModel(f"{model} has a tensor {name}, which this engine does not know")


def restore_rows(rows: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Undo llama.cpp's permutation: rows (2i, 2i+1) of a head become rows (i, i + head_dim/2).

    rows: [heads * head_dim, ..] of a projection's weight or bias.
    """
    head_dim = len(rows) // heads
    pairs = rows.reshape(heads, head_dim // 2, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def bfloat16_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Round to nearest even, as torch does; the values are finite, so NaN needs no care."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def _header(model: GgufModel) -> GgufHeader:
    embedding = model.tensors.get("token_embd.weight")
    if embedding is None:
        raise UnsupportedModel(f"{model.name} has no token embedding; it is not a whole language model")
    factors = model.tensors.get("rope_freqs.weight")
    return GgufHeader(
        name=model.name,
        fields=model.fields,
        tensors=frozenset(model.tensors),
        vocab_size=int(embedding.shape[-1]),
        rope_factors=None if factors is None else tuple(float(factor) for factor in factors.data),
    )


def _shape(tensor: Any) -> tuple[int, ...]:
    """As Hugging Face has it; tensor: a gguf.ReaderTensor."""
    return tuple(int(size) for size in reversed(tensor.shape))


def _dequantized(tensor: Any, config: dict[str, Any], model: str) -> npt.NDArray[np.float32]:
    """tensor: a gguf.ReaderTensor. Returns float32 in the shape Hugging Face has."""
    from gguf.quants import dequantize

    try:
        values = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    except NotImplementedError as error:
        raise UnsupportedModel(f"{model}: tensor {tensor.name} has the type {tensor.tensor_type.name}") from error
    if not np.isfinite(values).all():
        raise EngineError(f"{model}: tensor {tensor.name} holds values that are infinite or no number")
    values = values.reshape(_shape(tensor))
    if config["model_type"] == "llama" and ".attn_q." in tensor.name:
        return restore_rows(values, config["num_attention_heads"])
    if config["model_type"] == "llama" and ".attn_k." in tensor.name:
        return restore_rows(values, config["num_key_value_heads"])
    return values


def _write_safetensors(
    path: Path,
    tensors: list[tuple[str, Any]],
    config: dict[str, Any],
    model: str,
    on_progress: Progress | None,
) -> None:
    """The format is a length (u64), a JSON header and the tensors' bytes: so it can be written as a stream."""
    head = json.dumps(_safetensors_header(tensors)).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for done, (_, tensor) in enumerate(tensors, start=1):
            file.write(bfloat16_bits(_dequantized(tensor, config, model)).tobytes())
            if on_progress is not None:
                on_progress(done, len(tensors))


def _safetensors_header(tensors: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors:
        shape = _shape(tensor)
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    return header
