"""Tokenizers built from GGUF metadata: small vocabularies, every kind."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from services.models.errors import ModelError
from services.models.gguf_tokenizer import build_tokenizer, tokenizer_config, write_tokenizer
from services.models.gguf_vocabulary import TokenType

NORMAL, CONTROL = TokenType.NORMAL, TokenType.CONTROL


def byte_level(pre: str = "gpt-2", **more: Any) -> dict[str, Any]:
    """A vocabulary of all bytes, a few merges, one control token and one added token."""
    tokens = ["<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "he", "ll", "hell", "12", "123", "<think>"]
    types = [CONTROL, *[NORMAL] * (len(tokens) - 2), TokenType.USER_DEFINED]
    return {
        "general.name": "Tiny",
        "general.architecture": "llama",
        "llama.context_length": 128,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": ["h e", "l l", "he ll", "1 2", "12 3"],
        "tokenizer.ggml.eos_token_id": 0,
        **more,
    }


def sentencepiece(**more: Any) -> dict[str, Any]:
    tokens = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)]]
    types = [TokenType.UNKNOWN, CONTROL, CONTROL, *[TokenType.BYTE] * 256]
    pieces = ["▁t", "he", "▁the", "▁", "t", "h", "e", "a"]
    return {
        "general.name": "Tiny",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*tokens, *pieces],
        "tokenizer.ggml.token_type": [*types, *[NORMAL] * len(pieces)],
        "tokenizer.ggml.scores": [0.0] * len(tokens) + [float(-rank) for rank in range(len(pieces))],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 0,
        **more,
    }


def words(tokenizer: Tokenizer, text: str) -> list[str]:
    tokens: list[str] = tokenizer.encode(text).tokens
    return tokens


def test_merges_apply_and_ids_are_the_places_in_the_file() -> None:
    tokenizer = build_tokenizer(byte_level())
    assert words(tokenizer, "hello") == ["hell", "o"]
    tokens = byte_level()["tokenizer.ggml.tokens"]
    assert tokenizer.encode("hello").ids == [tokens.index("hell"), tokens.index("o")]
    assert tokenizer.get_vocab_size() == len(tokens)


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("gpt-2", ["123", "4"]),
        ("smollm", ["1", "2", "3", "4"]),
        ("llama-bpe", ["123", "4"]),
        ("qwen2", ["1", "2", "3", "4"]),
        ("tekken", ["1", "2", "3", "4"]),
    ],
)
def test_digits_are_cut_as_the_model_was_trained(pre: str, expected: list[str]) -> None:
    assert words(build_tokenizer(byte_level(pre)), "1234")[-len(expected) :] == expected


@given(st.text())
@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "tekken"])
def test_any_text_comes_back_from_a_byte_level_tokenizer(pre: str, text: str) -> None:
    tokenizer = BUILT[pre]
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


BUILT = {pre: build_tokenizer(byte_level(pre)) for pre in ("gpt-2", "smollm", "llama-bpe", "tekken")}


def test_a_control_token_is_one_token_and_special_an_added_one_is_not_special() -> None:
    tokenizer = build_tokenizer(byte_level("smollm"))
    ids = tokenizer.encode("a<|end|><think>b").ids
    assert len(ids) == 4
    assert tokenizer.decode(ids) == "a<think>b"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "a<|end|><think>b"


def test_llama_bpe_begins_with_bos_unless_the_file_says_otherwise() -> None:
    bos = {"tokenizer.ggml.bos_token_id": 0}
    assert build_tokenizer(byte_level("llama-bpe", **bos)).encode("h").ids[0] == 0
    silent = byte_level("llama-bpe", **bos, **{"tokenizer.ggml.add_bos_token": False})
    assert len(build_tokenizer(silent).encode("h").ids) == 1


def test_a_splitting_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="Tiny splits text as 'exaone'"):
        build_tokenizer(byte_level("exaone"))


def test_a_kind_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="Tiny has a tokenizer of the kind 't5'"):
        build_tokenizer(byte_level(**{"tokenizer.ggml.model": "t5"}))


def test_sentencepiece_merges_the_best_scored_piece_and_falls_back_to_bytes() -> None:
    tokenizer = build_tokenizer(sentencepiece())
    assert words(tokenizer, "the") == ["<s>", "▁the"]
    assert words(tokenizer, "a é") == ["<s>", "▁", "a", "▁", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(tokenizer.encode("the a é").ids) == "the a é"


def test_sentencepiece_adds_no_space_where_the_file_forbids_it() -> None:
    tokenizer = build_tokenizer(sentencepiece(**{"tokenizer.ggml.add_space_prefix": False}))
    assert words(tokenizer, "the") == ["<s>", "t", "he"]


def test_the_configuration_has_template_roles_and_context() -> None:
    config = tokenizer_config(byte_level(**{"tokenizer.chat_template": "{{ messages }}"}))
    assert config["chat_template"] == "{{ messages }}"
    assert config["eos_token"] == "<|end|>"
    assert config["model_max_length"] == 128
    assert config["add_bos_token"] is False
    assert "bos_token" not in config


def test_both_files_are_written_and_read_back(tmp_path: Path) -> None:
    write_tokenizer(byte_level("smollm"), tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert words(tokenizer, "hello12") == ["hell", "o", "1", "2"]
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
