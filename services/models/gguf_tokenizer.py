"""Build ``tokenizer.json`` and ``tokenizer_config.json`` from the vocabulary inside a GGUF file.

Two families: byte-level BPE (``gpt2``), which differs from model to model in how text is
split before merging, and SentencePiece BPE (``llama``), whose merges are implied by scores.
A vocabulary that is not known here is refused by name: a tokenizer that is nearly right
would answer, only worse.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from services.models.errors import ModelError
from services.models.gguf_vocabulary import Fields, GgufVocabulary, TokenType, vocabulary_of


@dataclass(frozen=True, slots=True)
class Splitting:
    """How one model's text is cut before byte-level merging.

    patterns: applied one after the other, each to the pieces that the one before left; none: GPT-2's own.
    digits: every digit stands alone, before anything else.
    whole_words: a word that is in the vocabulary is taken whole, merges or not.
    add_bos: the default of a file that does not say.
    """

    patterns: tuple[str, ...] = ()
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
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
SPLITTINGS = {
    "default": Splitting((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
    "gpt-2": Splitting(),
    "smollm": Splitting(digits=True),
    "llama-bpe": Splitting((rf"{_ENGLISH}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}",), whole_words=True, add_bos=True),
    "qwen2": Splitting((rf"{_ENGLISH}|{_WORDS}|\p{{N}}|{_REST}",), nfc=True),
    "tekken": Splitting((_TEKKEN,), whole_words=True, add_bos=True),
}
SPLITTINGS |= dict.fromkeys(("llama3", "llama-v3"), SPLITTINGS["llama-bpe"])
SPLITTINGS |= {"gpt2": SPLITTINGS["gpt-2"], "deepseek-r1-qwen": SPLITTINGS["qwen2"]}
"""By ``tokenizer.ggml.pre``; the same expressions as in the models' own tokenizer.json. A file that names none is split
as llama.cpp splits it, its ``default``, which is no model's own."""


def write_tokenizer(fields: Fields, directory: Path) -> None:
    """Write both files into ``directory``. Raises ModelError for a vocabulary that is not known here."""
    tokenizer = build_tokenizer(fields)
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    config = json.dumps(tokenizer_config(fields), indent=2, ensure_ascii=False) + "\n"
    (directory / "tokenizer_config.json").write_text(config, encoding="utf-8")


def build_tokenizer(fields: Fields) -> Tokenizer:
    """The tokenizer that the model was trained with, special and added tokens included. Raises ModelError."""
    vocabulary = vocabulary_of(fields)
    match vocabulary.kind:
        case "gpt2":
            tokenizer = _byte_level(vocabulary)
        case "llama":
            tokenizer = _sentencepiece(vocabulary)
        case kind:
            raise ModelError(
                f"{vocabulary.name} has a tokenizer of the kind {kind!r}; known are 'gpt2' (byte-level BPE) "
                "and 'llama' (SentencePiece)"
            )
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in vocabulary.special])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in vocabulary.added])
    _add_ends(tokenizer, vocabulary)
    if any(tokenizer.id_to_token(id_) != text for id_, text in enumerate(vocabulary.tokens)):
        raise ModelError(f"{vocabulary.name} has tokens whose ids can't be kept in a tokenizer.json")
    return tokenizer


def tokenizer_config(fields: Fields) -> dict[str, object]:
    """What tokenizer.json has no place for: the chat template and the special tokens' roles."""
    vocabulary = vocabulary_of(fields)
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": _adds_bos(vocabulary),
        "add_eos_token": vocabulary.flag("add_eos_token", False),
        "clean_up_tokenization_spaces": False,
    }
    for role, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        text = vocabulary.role(key)
        if text is not None:
            config[f"{role}_token"] = text
    context = fields.get(f"{fields.get('general.architecture')}.context_length")
    if context is not None:
        config["model_max_length"] = int(context)
    template = fields.get("tokenizer.chat_template")
    if template is not None:
        config["chat_template"] = str(template)
    return config


def _add_ends(tokenizer: Tokenizer, vocabulary: GgufVocabulary) -> None:
    """Bos in front and eos behind, where the file or its kind wants them."""
    bos = vocabulary.role("bos") if _adds_bos(vocabulary) else None
    eos = vocabulary.role("eos") if vocabulary.flag("add_eos_token", False) else None
    if bos is None and eos is None:
        return
    one, other = ([bos, text, eos] for text in ("$A", "$B"))
    ids = vocabulary.ids
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(part for part in one if part is not None),
        pair=" ".join([*filter(None, one), *(f"{part}:1" for part in other if part is not None)]),
        special_tokens=[(text, ids[text]) for text in {bos, eos} if text is not None],
    )


def _byte_level(vocabulary: GgufVocabulary) -> Tokenizer:
    pre = str(vocabulary.fields.get("tokenizer.ggml.pre", "default"))
    splitting = SPLITTINGS.get(pre)
    if splitting is None:
        raise ModelError(f"{vocabulary.name} splits text as {pre!r}; known are {', '.join(sorted(SPLITTINGS))}")
    merges = vocabulary.merges()
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary.ids, merges=merges, ignore_merges=splitting.whole_words))
    if splitting.nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(splitting)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _pre_tokenizer(splitting: Splitting) -> pre_tokenizers.PreTokenizer:
    steps: list[pre_tokenizers.PreTokenizer] = []
    if splitting.digits:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    steps += [pre_tokenizers.Split(Regex(each), behavior="isolated", invert=False) for each in splitting.patterns]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not splitting.patterns))
    return pre_tokenizers.Sequence(steps)


def _sentencepiece(vocabulary: GgufVocabulary) -> Tokenizer:
    ids = vocabulary.ids
    merges = _merges(ids, vocabulary.scores(), vocabulary.types)
    unknown = vocabulary.role("unknown")
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefixed = vocabulary.flag("add_space_prefix", True)
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


def _adds_bos(vocabulary: GgufVocabulary) -> bool:
    kind = SPLITTINGS.get(str(vocabulary.fields.get("tokenizer.ggml.pre")), Splitting())
    return vocabulary.flag("add_bos_token", vocabulary.kind == "llama" or kind.add_bos)
