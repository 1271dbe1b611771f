"""Build ``tokenizer.json`` and ``tokenizer_config.json`` from the vocabulary inside a GGUF file.

Two families: byte-level BPE (``gpt2``), which differs from model to model in how text is
split before merging, and SentencePiece BPE (``llama``), whose merges are implied by scores.
A vocabulary that is not known here is refused by name: a tokenizer that is nearly right
would answer, only worse.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from services.models.errors import ModelError

Fields = Mapping[str, Any]
"""A GGUF file's metadata by full key; values are numbers, strings, booleans or lists of them."""


class TokenType(IntEnum):
    """The values of ``tokenizer.ggml.token_type``."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Splitting:
    """How one model's text is cut before byte-level merging.

    pattern None: GPT-2's own. digits: every digit stands alone, before anything else.
    whole_words: a word that is in the vocabulary is taken whole, merges or not.
    add_bos: the default of a file that does not say.
    """

    pattern: str | None = None
    digits: bool = False
    nfc: bool = False
    whole_words: bool = False
    add_bos: bool = False


_ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_LOWER = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITTINGS = {
    "gpt-2": Splitting(),
    "smollm": Splitting(digits=True),
    "llama-bpe": Splitting(rf"{_ENGLISH}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}", whole_words=True, add_bos=True),
    "qwen2": Splitting(rf"{_ENGLISH}|{_WORDS}|\p{{N}}|{_REST}", nfc=True),
    "tekken": Splitting(_TEKKEN, whole_words=True, add_bos=True),
}
SPLITTINGS |= dict.fromkeys(("llama3", "llama-v3"), SPLITTINGS["llama-bpe"])
SPLITTINGS |= {"gpt2": SPLITTINGS["gpt-2"], "deepseek-r1-qwen": SPLITTINGS["qwen2"]}
"""By ``tokenizer.ggml.pre``; the same expressions as in the models' own tokenizer.json."""


def write_tokenizer(fields: Fields, directory: Path) -> None:
    """Write both files into ``directory``. Raises ModelError for a vocabulary that is not known here."""
    tokenizer = build_tokenizer(fields)
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    config = json.dumps(tokenizer_config(fields), indent=2, ensure_ascii=False) + "\n"
    (directory / "tokenizer_config.json").write_text(config, encoding="utf-8")


def build_tokenizer(fields: Fields) -> Tokenizer:
    """The tokenizer that the model was trained with, special and added tokens included."""
    name = str(fields.get("general.name", "this model"))
    kind = fields.get("tokenizer.ggml.model")
    if kind == "gpt2":
        tokenizer = _byte_level(fields, name)
    elif kind == "llama":
        tokenizer = _sentencepiece(fields)
    else:
        raise ModelError(f"{name} has a tokenizer of the kind {kind!r}; known are 'gpt2' and 'llama'")
    tokens: Sequence[str] = fields["tokenizer.ggml.tokens"]
    types: Sequence[int] = fields["tokenizer.ggml.token_type"]
    control = [text for text, type_ in zip(tokens, types, strict=True) if type_ == TokenType.CONTROL]
    added = [text for text, type_ in zip(tokens, types, strict=True) if type_ == TokenType.USER_DEFINED]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in control])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    bos = _special(fields, "bos")
    if _adds_bos(fields) and bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B:1", special_tokens=[(bos, tokens.index(bos))]
        )
    return tokenizer


def tokenizer_config(fields: Fields) -> dict[str, object]:
    """What tokenizer.json has no place for: the chat template and the special tokens' roles."""
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": _adds_bos(fields),
        "clean_up_tokenization_spaces": False,
    }
    for role, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        text = _special(fields, key)
        if text is not None:
            config[f"{role}_token"] = text
    context = fields.get(f"{fields.get('general.architecture')}.context_length")
    if context is not None:
        config["model_max_length"] = int(context)
    template = fields.get("tokenizer.chat_template")
    if template is not None:
        config["chat_template"] = str(template)
    return config


def _byte_level(fields: Fields, name: str) -> Tokenizer:
    pre = str(fields.get("tokenizer.ggml.pre", "gpt-2"))
    splitting = SPLITTINGS.get(pre)
    if splitting is None:
        raise ModelError(f"{name} splits text as {pre!r}; known are {', '.join(sorted(SPLITTINGS))}")
    vocabulary = {text: id_ for id_, text in enumerate(fields["tokenizer.ggml.tokens"])}
    merges = [_pair(line) for line in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=splitting.whole_words))
    if splitting.nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(splitting)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _pre_tokenizer(splitting: Splitting) -> pre_tokenizers.PreTokenizer:
    steps: list[pre_tokenizers.PreTokenizer] = []
    if splitting.digits:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    if splitting.pattern is not None:
        steps.append(pre_tokenizers.Split(Regex(splitting.pattern), behavior="isolated", invert=False))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splitting.pattern is None))
    return pre_tokenizers.Sequence(steps)


def _pair(line: str) -> tuple[str, str]:
    left, _, right = line.partition(" ")
    return left, right


def _sentencepiece(fields: Fields) -> Tokenizer:
    tokens: Sequence[str] = fields["tokenizer.ggml.tokens"]
    vocabulary = {text: id_ for id_, text in enumerate(tokens)}
    merges = _merges(vocabulary, fields["tokenizer.ggml.scores"], fields["tokenizer.ggml.token_type"])
    unknown = _special(fields, "unknown")
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    prefixed = bool(fields.get("tokenizer.ggml.add_space_prefix", True))
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefixed else spaces
    decoding = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(decoding + ([decoders.Strip(" ", 1, 0)] if prefixed else []))
    return tokenizer


def _merges(vocabulary: Mapping[str, int], scores: Sequence[float], types: Sequence[int]) -> list[tuple[str, str]]:
    """SentencePiece merges whatever pair makes the best-scored piece: so every way to cut a piece in two is a merge.

    Among the cuts of one piece the one whose parts came first in the vocabulary goes first.
    """
    found: list[tuple[float, int, int, str, str]] = []
    for piece, id_ in vocabulary.items():
        if types[id_] != TokenType.NORMAL:
            continue
        for cut in range(1, len(piece)):
            left, right = vocabulary.get(piece[:cut]), vocabulary.get(piece[cut:])
            if left is not None and right is not None:
                found.append((-scores[id_], left, right, piece[:cut], piece[cut:]))
    return [(left, right) for *_, left, right in sorted(found)]


def _adds_bos(fields: Fields) -> bool:
    stated = fields.get("tokenizer.ggml.add_bos_token")
    if stated is not None:
        return bool(stated)
    if fields.get("tokenizer.ggml.model") == "llama":
        return True
    return SPLITTINGS.get(str(fields.get("tokenizer.ggml.pre")), Splitting()).add_bos


def _special(fields: Fields, key: str) -> str | None:
    """The text of the token with that role, or None where the file names none."""
    id_ = fields.get(f"tokenizer.ggml.{key}_token_id")
    tokens: Sequence[str] = fields["tokenizer.ggml.tokens"]
    return tokens[int(id_)] if id_ is not None and 0 <= int(id_) < len(tokens) else None
