"""GGUF files are loaded as llama.cpp loads them, or refused in a sentence; no traceback reaches the user."""

import random
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.models.errors import ModelError
from services.models.gguf_tokenizer import build_tokenizer
from services.models.main import main
from services.models.resolve import resolve_model
from tests.engine.llama.driving import greedy, in_a_row, load
from tests.field.gguf_rows import (
    ANSWERED,
    ANSWERS,
    BYTES,
    FIELDS,
    IDS,
    MERGES,
    PROMPT,
    TEXTS,
    byte_level,
    sentencepiece,
)
from tests.field.models import HIDDEN, VOCABULARY, Tiny, gguf_fields, write_gguf

NAMES = list(VOCABULARY)
MODEL = Tiny(attentive=True, layers=2)


@pytest.mark.parametrize("row", list(FIELDS))
def test_text_is_split_as_llama_cpp_splits_it(row: str) -> None:
    fields = {key: value for key, value in (gguf_fields() | FIELDS[row]).items() if value is not None}
    tokenizer = build_tokenizer(fields)
    assert [tokenizer.encode(text).ids for text in TEXTS] == IDS[row]


@pytest.mark.parametrize("row", list(ANSWERED))
def test_answers_are_those_of_llama_cpp(tmp_path: Path, row: str) -> None:
    fields, tensors = ANSWERED[row]
    changed = {f"llama.{key}": value for key, value in fields.items()}
    [path] = write_gguf(tmp_path / "m.gguf", MODEL, fields=changed, tensors=tensors)
    engine = load(resolve_model(str(path), tmp_path / "data").directory)
    assert greedy(engine, PROMPT, in_a_row(6), 8) == ANSWERS[row]


def hyper(**changes: Any) -> dict[str, Any]:
    return {f"llama.{key.replace('__', '.')}": value for key, value in changes.items()}


REFUSED: dict[str, tuple[Mapping[str, Any], str]] = {
    # Vocabularies. llama.cpp refuses these, too, but for the two stray merges, which it turns into single bytes.
    "no merges": (byte_level(merges=None), "has no merges (tokenizer.ggml.merges)"),
    "a merge into nothing": (byte_level(merges=[*MERGES, "x y"]), "has the merge 'x y', but no token 'xy'"),
    "no tokens": (byte_level(tokens=None), "has no vocabulary (tokenizer.ggml.tokens)"),
    "a token twice": ({"tokenizer.ggml.tokens": ["a", "a", *NAMES[2:]]}, "has the token 'a' twice"),
    "too few types": ({"tokenizer.ggml.token_type": [1, 1]}, "does not have a type for each of its 262 tokens"),
    "too few tokens": ({"tokenizer.ggml.tokens": BYTES, "tokenizer.ggml.merges": ["t h"]}, "no token 'th'"),
    "tokens that are not the embedding's": (byte_level(), "has 270 tokens, but an embedding of 262"),
    "no model of a tokenizer": ({"tokenizer.ggml.model": None}, "a tokenizer of the kind 'None'"),
    "WordPiece": ({"tokenizer.ggml.model": "bert"}, "a tokenizer of the kind 'bert'"),
    "unigram": ({"tokenizer.ggml.model": "t5"}, "a tokenizer of the kind 't5'"),
    "no vocabulary by name": ({"tokenizer.ggml.model": "no_vocab"}, "a tokenizer of the kind 'no_vocab'"),
    "an unknown splitting": ({"tokenizer.ggml.pre": "mine"}, "splits text as 'mine'"),
    "SentencePiece without scores": (sentencepiece(scores=None), "has no score for each of its tokens"),
    "forbidden tokens": ({"tokenizer.ggml.suppress_tokens": [1]}, "forbids some tokens"),
    # Sizes.
    "layers that differ in KV heads": (
        hyper(attention__head_count_kv=[4, 2]),
        "layers that differ in llama.attention.head",
    ),
    "layers that differ in heads": (hyper(attention__head_count=[4, 2]), "differ in llama.attention.head_count (2, 4)"),
    "layers that differ in MLPs": (hyper(feed_forward_length=[96, 64]), "differ in llama.feed_forward_length (64, 96)"),
    "a size for one layer of two": (
        hyper(feed_forward_length=[96]),
        "llama.feed_forward_length has 1 values for 2 layers",
    ),
    "no heads": (hyper(attention__head_count=0), "llama.attention.head_count is 0"),
    "layers without KV heads": (hyper(attention__head_count_kv=[0, 0]), "llama.attention.head_count_kv is 0"),
    "no epsilon": (hyper(attention__layer_norm_rms_epsilon=None), "does not say its llama.attention.layer_norm_rms"),
    "a size that is a text": (hyper(embedding_length="64"), "llama.embedding_length is no whole number"),
    "a theta that is a text": (hyper(rope__freq_base="much"), "llama.rope.freq_base is no number"),
    "a layer too many": (hyper(block_count=1), "has the weight model.layers.1.input_layernorm.weight"),
    "a layer too few": (hyper(block_count=3), "has no weight model.layers.2.input_layernorm.weight"),
    "an MLP of another size": (hyper(feed_forward_length=95), "is [96, 64] instead of [95, 64]"),
    "values of another size": (hyper(attention__value_length=8), "has values of another size than keys"),
    # What would change the arithmetic.
    "another architecture": ({"general.architecture": "gemma3"}, "the architecture gemma3"),
    "a part of each head rotated": (hyper(rope__dimension_count=8), "rotates only a part of each head"),
    "yarn": (hyper(rope__scaling__type="yarn", rope__scaling__factor=4.0), "the RoPE scaling yarn"),
    "longrope": (hyper(rope__scaling__type="longrope"), "the RoPE scaling longrope"),
    "an unknown scaling": (hyper(rope__scaling__type="mine"), "the RoPE scaling mine"),
    "an attention factor": (hyper(rope__scaling__attn_factor=1.5), "has llama.rope.scaling.attn_factor = 1.5"),
    "sliding windows": (hyper(attention__sliding_window=16), "sliding-window attention (a window of 16 tokens)"),
    "a pattern of windows": (hyper(attention__sliding_window_pattern=[1, 0]), "llama.attention.sliding_window_pattern"),
    "soft caps": (hyper(final_logit_softcapping=30.0), "llama.final_logit_softcapping = 30.0"),
    "scaled logits": (hyper(logit_scale=0.5), "llama.logit_scale = 0.5"),
    "scaled attention": (hyper(attention__scale=0.1), "llama.attention.scale = 0.1"),
    "biases by position": (hyper(attention__max_alibi_bias=8.0), "llama.attention.max_alibi_bias = 8.0"),
    "attention in both directions": (hyper(attention__causal=False), "llama.attention.causal = False"),
    "experts": (hyper(expert_count=8, expert_used_count=2), "a mixture of experts"),
    "pooled embeddings": (hyper(pooling_type=3), "llama.pooling_type = 3"),
}


def refusal(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What ``moonpool pull`` says of a file that it refuses."""
    assert main([str(path), "--data-dir", str(path.parent / "data")]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert "Traceback" not in err
    assert [left for left in (path.parent / "data").rglob("*") if left.is_file() and left.suffix != ".lock"] == []
    return err.splitlines()[-1]


@pytest.mark.parametrize("row", list(REFUSED))
def test_what_can_not_be_done_right_is_refused_by_name(
    tmp_path: Path, row: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fields, named = REFUSED[row]
    architecture = str(fields.get("general.architecture", "llama"))
    others = {key: value for key, value in fields.items() if key != "general.architecture"}
    [path] = write_gguf(tmp_path / "m.gguf", MODEL, architecture=architecture, fields=others)
    assert named in refusal(path, capsys)


TENSORS: dict[str, tuple[Mapping[str, Any], str]] = {
    "no embedding": ({"token_embd.weight": None}, "no token embedding"),
    "an unknown tensor": ({"blk.0.attn_qkv.weight": np.ones((4, 4), np.float32)}, "a tensor blk.0.attn_qkv.weight"),
    "long and short factors": ({"rope_factors_long.weight": np.ones(8, np.float32)}, "rope_factors_long.weight"),
    "factors that are not Llama 3's": ({"rope_freqs.weight": np.linspace(1, 3, 8, dtype=np.float32)}, "not Llama 3's"),
    "a bias on one projection": ({"blk.0.attn_q.bias": np.ones(64, np.float32)}, "no weight model.layers.0.self_attn"),
    "a bias in the MLP": ({"blk.0.ffn_up.bias": np.ones(96, np.float32)}, "biases in its MLP"),
    "whole numbers": ({"output_norm.weight": np.ones(HIDDEN, np.int32)}, "tensor output_norm.weight has the type I32"),
    "no number": ({"output_norm.weight": np.full(HIDDEN, np.nan, np.float32)}, "infinite or no number"),
    "infinite": ({"output_norm.weight": np.full(HIDDEN, np.inf, np.float32)}, "infinite or no number"),
    "another shape": ({"output_norm.weight": np.ones(HIDDEN + 1, np.float32)}, "is [65] instead of [64]"),
}


@pytest.mark.parametrize("row", list(TENSORS))
def test_tensors_that_can_not_be_used_are_refused_by_name(
    tmp_path: Path, row: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors, named = TENSORS[row]
    [path] = write_gguf(tmp_path / "m.gguf", MODEL, tensors=tensors)
    assert named in refusal(path, capsys)


HEADS = {
    "nothing": b"",
    "a version from the future": struct.pack("<4sIQQ", b"GGUF", 99, 0, 0),
    "the first version": struct.pack("<4sIQQ", b"GGUF", 1, 0, 0),
    "the other byte order": struct.pack(">4sIQQ", b"GGUF", 3, 0, 0) + bytes(64),
    "an older format": b"ggjt" + bytes(64),
    "more metadata than there is": struct.pack("<4sIQQ", b"GGUF", 3, 1, 2**40) + bytes(8),
    "a string of all memory": struct.pack("<4sIQQQ", b"GGUF", 3, 1, 1, 2**62) + bytes(8),
    "an array without end": struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"a", 9, 5, 2**61) + bytes(8),
    "an unknown kind of value": struct.pack("<4sIQQQ1sI", b"GGUF", 3, 0, 1, 1, b"a", 77) + bytes(8),
    "nothing in it": struct.pack("<4sIQQ", b"GGUF", 3, 0, 0) + bytes(64),
}


@pytest.mark.parametrize("row", list(HEADS))
def test_a_head_that_makes_no_sense_is_refused(tmp_path: Path, row: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.gguf").write_bytes(HEADS[row])
    assert "m.gguf" in refusal(tmp_path / "m.gguf", capsys)


def test_a_file_with_flipped_bytes_is_converted_or_refused_but_never_a_traceback(tmp_path: Path) -> None:
    [path] = write_gguf(tmp_path / "m.gguf")
    whole, chance = path.read_bytes(), random.Random(11)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[chance.randrange(12_000)] = chance.randrange(256)  # where metadata and the tensors' places are
        path.write_bytes(damaged)
        try:
            resolve_model(str(path), tmp_path / "data")
        except ModelError:
            refused += 1
    assert refused > 20
