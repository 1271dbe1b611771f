"""Which class transformers loads a directory's tokenizer with, and what that class makes of its files.

Most take ``tokenizer.json`` as it is. A few take only its vocabulary, merges and post-processor, and split and
decode in their own way (transformers 5.24, ``TokenizersBackend.convert_to_native_format``): those that models of
the engine's families have are built here the same, and the others are refused, as the file alone would be nearly
right.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from services.gateway.tokenizer.files import Document, TextError, TokenizerFiles

Vocabulary = Mapping[str, int]
Merges = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class TokenizerClass:
    """build: from vocabulary, merges and tokenizer_config; None: tokenizer.json as it is.

    named: special tokens where no file says. keeps_post_processor: of tokenizer.json. adds_special: at its end, it
    makes every special token one that is matched before anything else is done to the text.
    """

    build: Callable[[Vocabulary, Merges, Document], Tokenizer] | None = None
    named: Mapping[str, str] = field(default_factory=dict)
    keeps_post_processor: bool = True
    adds_special: bool = False


def _gpt2(vocabulary: Vocabulary, merges: Merges, config: Document) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=dict(vocabulary), merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(config.get("add_prefix_space")))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _gpt_neox(vocabulary: Vocabulary, merges: Merges, config: Document) -> Tokenizer:
    tokenizer = _gpt2(vocabulary, merges, config)
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _qwen2(vocabulary: Vocabulary, merges: Merges, config: Document) -> Tokenizer:
    tokenizer = _gpt_neox(vocabulary, merges, config)
    words = pre_tokenizers.Split(Regex(QWEN2_WORDS), behavior="isolated", invert=False)
    prefixed = bool(config.get("add_prefix_space"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=prefixed, use_regex=False)]
    )
    return tokenizer


def _llama(vocabulary: Vocabulary, merges: Merges, config: Document) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=dict(vocabulary), merges=list(merges), fuse_unk=True, byte_fallback=True))
    prefixed = config.get("add_prefix_space") is not False
    scheme = "never" if not prefixed else "always" if config.get("legacy") else "first"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
    decoding = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(decoding + ([decoders.Strip(" ", 1, 0)] if prefixed else []))
    return tokenizer


END = "<|endoftext|>"
PLAIN = frozenset({"PreTrainedTokenizer", "TokenizersBackend", "PythonBackend"})
AS_IT_IS = TokenizerClass()
QWEN2 = TokenizerClass(_qwen2, {"unk_token": END, "eos_token": END, "pad_token": END}, adds_special=True)
BUILT: Mapping[str, TokenizerClass] = {
    "GPT2Tokenizer": TokenizerClass(_gpt2, {"unk_token": END, "bos_token": END, "eos_token": END}),
    "GPTNeoXTokenizer": TokenizerClass(
        _gpt_neox,
        {"unk_token": END, "bos_token": END, "eos_token": END, "pad_token": "<|padding|>"},
        keeps_post_processor=False,
    ),
    "LlamaTokenizer": TokenizerClass(_llama, {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}),
    "Qwen2Tokenizer": QWEN2,
}
_OTHERS = (
    "Albert Bart Barthez Bartpho Bert BertGeneration BertJapanese Bertweet BigBird BioGpt Blenderbot BlenderbotSmall "
    "ByT5 CLIP CTRL Camembert Canine Clvp CodeGen CodeLlama Cohere Cpm CpmAnt DPRContextEncoder DPRQuestionEncoder "
    "DPRReader Deberta DebertaV2 Dia DistilBert Esm Esmc FSMT FastSpeech2Conformer Flaubert Funnel GPTNeoXJapanese "
    "GPTSw3 Gemma Herbert LED Lasr LayoutLMv2 LayoutLMv3 LayoutXLM Luke Lxmert M2M100 MBart MBart50 MLuke MPNet "
    "Marian MarkupLM Mgpstr MobileBert Mvp MyT5 Nllb Nougat OpenAIGPT PLBart Pegasus Perceiver Phobert Pop2Piano "
    "ProphetNet Qwen3_5 Rag Reformer RemBert RoCBert RoFormer Roberta SeamlessM4T Siglip Siglip2 Speech2Text SpeechT5 "
    "Splinter T5 Tapas Tipsv2 Udop VideoPrism Vits Wav2Vec2CTC Wav2Vec2PhonemeCTC Whisper XGLM XLM XLMRoberta XLNet "
)
OTHERS = frozenset(f"{name}Tokenizer" for name in _OTHERS.split())
"""The other classes of transformers 5.24 that do not take tokenizer.json as it is."""


def class_of(files: TokenizerFiles) -> TokenizerClass:
    """As ``AutoTokenizer`` of transformers 5.24 chooses it. Raises TextError for one that is not known here."""
    family = files.config.get("model_type")
    named = files.tokenizer_config.get("tokenizer_class") or files.config.get("tokenizer_class")
    name = str(named).removesuffix("Fast") if named else None
    if family == "qwen2":  # listed there as a family whose files name wrong classes
        return QWEN2
    if _auto_map(files):
        _check_known(files, family, name)
    elif family == "mistral" or (name == "LlamaTokenizer" and _is_byte_level(files)):
        return AS_IT_IS
    if name is None:
        return QWEN2 if family == "qwen3" else AS_IT_IS
    if name in OTHERS:
        raise TextError(
            f"{files.directory}: tokenizer_config.json's tokenizer_class {named} is not supported; where "
            "tokenizer.json says all, PreTrainedTokenizerFast is the class that takes it as it is"
        )
    return BUILT.get(name, AS_IT_IS)


def _check_known(files: TokenizerFiles, family: object, name: str | None) -> None:
    """Code of the model's own is not run: a class that is known here takes its place, as where it is not trusted."""
    if family not in ("mistral", "qwen3") and name not in PLAIN and name not in BUILT:
        raise TextError(
            f"{files.directory}: tokenizer_config.json's auto_map asks for Python code of the model's own, which is "
            f"not run, and its tokenizer_class {name} is not known"
        )


def build(chosen: TokenizerClass, files: TokenizerFiles) -> Tokenizer:
    """What ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``, make in that class. Raises TextError."""
    if files.tokenizer is None:
        return _from_vocabulary(chosen, files)
    path = files.directory / "tokenizer.json"
    try:
        if chosen.build is None:
            return Tokenizer.from_file(str(path))
        model = files.tokenizer["model"]
        merges = [_pair(each) for each in model["merges"]]
        tokenizer = chosen.build(model["vocab"], merges, files.tokenizer_config)
        if chosen.keeps_post_processor:
            tokenizer.post_processor = _without_vocabulary(files.tokenizer).post_processor
    except Exception as error:  # the library raises plain Exception
        raise TextError(f"{path} is not a tokenizer: {error}") from error
    return tokenizer


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _from_vocabulary(chosen: TokenizerClass, files: TokenizerFiles) -> Tokenizer:
    vocabulary, merges = files.directory / "vocab.json", files.directory / "merges.txt"
    if chosen.build in (None, _llama) or not (vocabulary.is_file() and merges.is_file()):
        there = [
            name for name in ("tokenizer.model", "tekken.json", "tiktoken.model") if (files.directory / name).is_file()
        ]
        raise TextError(
            f"{files.directory} has no tokenizer.json"
            + (f", and {there[0]} alone is not read" if there else "")
            + "; AutoTokenizer.from_pretrained(..).save_pretrained(..) of transformers writes one"
        )
    try:
        words, pairs = models.BPE.read_file(str(vocabulary), str(merges))
    except Exception as error:  # the library raises plain Exception
        raise TextError(f"{vocabulary} and {merges.name} are no vocabulary: {error}") from error
    return chosen.build(words, pairs, files.tokenizer_config)


def _without_vocabulary(document: Document) -> Tokenizer:
    model = {**document["model"], "vocab": {}, "merges": []}
    return Tokenizer.from_str(json.dumps({**document, "model": model, "added_tokens": []}))


def _is_byte_level(files: TokenizerFiles) -> bool:
    return files.tokenizer is not None and "ByteLevel" in _strings(
        [files.tokenizer.get(part) for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder")]
    )


def _strings(value: Any) -> set[str]:  # Any: JSON
    if isinstance(value, Mapping):
        return _strings(list(value.values()))
    if isinstance(value, list):
        return set().union(*map(_strings, value)) if value else set()
    return {value} if isinstance(value, str) else set()


def _auto_map(files: TokenizerFiles) -> bool:
    given = files.tokenizer_config.get("auto_map")
    return bool(given.get("AutoTokenizer")) if isinstance(given, Mapping) else bool(given)
