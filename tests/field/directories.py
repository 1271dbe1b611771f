"""Variants of a model directory's tokenizer files, and what a library makes of each.

Tiny tokenizers of two kinds: bytes (as GPT-2, Qwen and Llama 3 have) and words with byte fallback (as Llama 2 and
Mistral have). A variant is its files by name; a value of None takes one away.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

END, START, TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHATML = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = ["a", "b", "ab", "▁", "▁a", "▁ab", "c", "1", "2", "▁1"]
PROBES = (f"ab 12{TURN} a<x> <y>\t<s>é</s>", f"{START}a'll  <x>{TURN}\n")
"""Texts that every variant is asked to cut."""
MESSAGES = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]


def bytes_tokenizer(
    special: tuple[str, ...] = (END, START, TURN),
    *,
    post: bool = False,
    merges: tuple[tuple[str, str], ...] = (("a", "b"), ("Ġ", "ab")),
    in_vocabulary: bool = False,
    digits: bool = False,
) -> Tokenizer:
    """in_vocabulary: special tokens are entries of the vocabulary, but no added tokens."""
    texts = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    vocabulary = {text: id_ for id_, text in enumerate([*texts, *(special if in_vocabulary else ())])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    made.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.decoder = decoders.ByteLevel()
    if not in_vocabulary:
        made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    if post:
        made.post_processor = processors.TemplateProcessing(
            single=f"{END} $A", special_tokens=[(END, made.token_to_id(END))]
        )
    return made


def words_tokenizer(*, post: bool = True, prepend: bool = True) -> Tokenizer:
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *WORDS]
    merges = [("a", "b"), ("▁", "a"), ("▁", "ab"), ("▁", "1")]
    vocabulary = {text: id_ for id_, text in enumerate(texts)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    spaces = normalizers.Replace(" ", "▁")
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prepend else spaces
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in ("<unk>", "<s>", "</s>")])
    if post:
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return made


Files = Mapping[str, Any]
Make = Callable[[], Files]


def directory(
    made: Tokenizer | None = None,
    *,
    config: Files | None = None,
    class_: str | None = "PreTrainedTokenizerFast",
    **more: Any,
) -> Files:
    """tokenizer.json, tokenizer_config.json with a class, bos and eos, config.json; ``more`` changes the middle one."""
    settings = {"tokenizer_class": class_, "bos_token": END, "eos_token": TURN, "chat_template": CHATML, **more}
    if class_ is None:
        del settings["tokenizer_class"]
    return {
        "tokenizer.json": json.loads((made or bytes_tokenizer()).to_str()),
        "tokenizer_config.json": {key: value for key, value in settings.items() if value is not ...},
        "config.json": {"model_type": "llama", **(config or {})},
    }


def words(class_: str = "LlamaTokenizerFast", made: Tokenizer | None = None, **more: Any) -> Files:
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return directory(made or words_tokenizer(), class_=class_, **roles | more)


def plain_vocabulary(class_: str, **more: Any) -> Files:
    document = json.loads(bytes_tokenizer(in_vocabulary=True).to_str())
    merges = "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in document["model"]["merges"])
    return {
        **directory(class_=class_, **more),
        "tokenizer.json": None,
        "vocab.json": document["model"]["vocab"],
        "merges.txt": merges,
    }


def unspecial(**more: Any) -> Files:
    """The vocabulary has the special tokens, tokenizer.json does not say that they are special."""
    return directory(bytes_tokenizer(in_vocabulary=True), **more)


def added(content: str, **flags: bool) -> dict[str, Any]:
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    return {"content": content, **plain, **flags}


def typed(content: str, **flags: bool) -> dict[str, Any]:
    return {"__type": "AddedToken", **added(content, **flags)}


FIRST = 256 + 2
"""The id of the first special token of a bytes tokenizer: after the alphabet and two merges."""
NO_ROLES: dict[str, Any] = {"bos_token": ..., "eos_token": ...}
BOTH: dict[str, Any] = {"bos_token": END, "eos_token": TURN}
DECODER = {str(FIRST): added(END), str(FIRST + 1): added(START), str(FIRST + 2): added(TURN)}

VARIANTS: dict[str, Make] = {
    "plain": directory,
    "no tokenizer_config.json": lambda: {**directory(), "tokenizer_config.json": None},
    "no tokenizer_config.json, special map": lambda: {
        **unspecial(),
        "tokenizer_config.json": None,
        "special_tokens_map.json": BOTH,
    },
    "no class": lambda: directory(class_=None),
    "no config.json's type": lambda: {**directory(), "config.json": {}},
    "roles in the special map only": lambda: {**directory(**NO_ROLES), "special_tokens_map.json": BOTH},
    "special map only, vocabulary entries": lambda: {**unspecial(**NO_ROLES), "special_tokens_map.json": BOTH},
    "special map of objects": lambda: {
        **unspecial(**NO_ROLES),
        "special_tokens_map.json": {
            "bos_token": {k: v for k, v in added(END).items() if k != "special"},
            "eos_token": added(TURN, lstrip=True),
        },
    },
    "special map differs": lambda: {**directory(), "special_tokens_map.json": {"bos_token": START, "eos_token": END}},
    "special map has nulls": lambda: {**directory(), "special_tokens_map.json": {"bos_token": None, "eos_token": TURN}},
    "special map beside a decoder": lambda: {
        **directory(added_tokens_decoder=DECODER, **NO_ROLES),
        "special_tokens_map.json": BOTH,
    },
    "special map has additional tokens": lambda: {
        **unspecial(),
        "special_tokens_map.json": {"additional_special_tokens": [START, "<x>"]},
    },
    "special map has named extra": lambda: {
        **unspecial(),
        "special_tokens_map.json": {"extra_special_tokens": {"start_token": START, "x_token": "<x>"}},
    },
    "special map and config have additional": lambda: {
        **unspecial(additional_special_tokens=["<y>"]),
        "special_tokens_map.json": {"additional_special_tokens": ["<x>"]},
    },
    "roles are null": lambda: directory(bos_token=None, eos_token=None),
    "pad and unk": lambda: directory(pad_token=END, unk_token=None),
    "pad is new": lambda: directory(pad_token="<pad>"),
    "eos is new": lambda: directory(eos_token="</s>"),
    "roles as objects with a type": lambda: unspecial(bos_token=typed(END), eos_token=typed(TURN, rstrip=True)),
    "roles not special as objects": lambda: unspecial(eos_token=typed(TURN, special=False, normalized=True)),
    "added_tokens_decoder": lambda: unspecial(added_tokens_decoder=DECODER),
    "added_tokens_decoder, new": lambda: directory(added_tokens_decoder={**DECODER, str(FIRST + 3): added("<x>")}),
    "added_tokens_decoder, flags": lambda: directory(
        added_tokens_decoder={
            **DECODER,
            str(FIRST + 3): added("<x>", lstrip=True, rstrip=True, special=False),
            str(FIRST + 4): added("<y>", normalized=True, special=False),
            str(FIRST + 5): added("ll", single_word=True, special=False),
        }
    ),
    "added_tokens_decoder, not special": lambda: directory(
        added_tokens_decoder={str(FIRST + 2): added(TURN, special=False)}, eos_token=END
    ),
    "added_tokens.json": lambda: {**directory(), "added_tokens.json": {"<x>": FIRST + 3, "<y>": FIRST + 4}},
    "added_tokens.json, vocabulary entries": lambda: {
        **unspecial(),
        "added_tokens.json": {END: FIRST, START: FIRST + 1, TURN: FIRST + 2},
    },
    "added_tokens.json, named special": lambda: {
        **unspecial(additional_special_tokens=[START]),
        "added_tokens.json": {START: FIRST + 1, "<x>": FIRST + 3},
    },
    "additional_special_tokens": lambda: unspecial(additional_special_tokens=[START, "<x>"]),
    "additional_special_tokens as objects": lambda: unspecial(additional_special_tokens=[typed("<x>", lstrip=True)]),
    "additional_special_tokens is null": lambda: unspecial(additional_special_tokens=None),
    "extra_special_tokens, list": lambda: unspecial(extra_special_tokens=[START, "<x>"]),
    "extra_special_tokens, named": lambda: unspecial(extra_special_tokens={"x_token": "<x>", "start": START}),
    "extra and additional": lambda: unspecial(extra_special_tokens=["<x>"], additional_special_tokens=["<y>"]),
    "extra is empty, additional not": lambda: unspecial(extra_special_tokens=[], additional_special_tokens=["<y>"]),
    "own role": lambda: unspecial(image_token="<x>", sep_token=START),
    "own role as an object": lambda: unspecial(image_token=typed("<x>", rstrip=True)),
    "add_bos_token": lambda: directory(add_bos_token=True, add_eos_token=True),
    "add_bos_token, Llama's class": lambda: directory(class_="LlamaTokenizerFast", add_bos_token=True),
    "post-processor": lambda: directory(bytes_tokenizer(post=True)),
    "post-processor, add_bos_token false": lambda: directory(bytes_tokenizer(post=True), add_bos_token=False),
    "padding and truncation": lambda: directory(_padded()),
    "split_special_tokens": lambda: directory(split_special_tokens=True),
    "clean_up_tokenization_spaces": lambda: directory(clean_up_tokenization_spaces=True),
    "model_max_length": lambda: directory(model_max_length=4),
    "a letter as a special token": lambda: directory(additional_special_tokens=["é"]),
    "GPT2Tokenizer": lambda: directory(class_="GPT2Tokenizer"),
    "GPT2TokenizerFast, roles by default": lambda: directory(class_="GPT2TokenizerFast", **NO_ROLES),
    "GPT2Tokenizer, digits": lambda: directory(
        bytes_tokenizer(digits=True, merges=(("1", "2"),)), class_="GPT2Tokenizer"
    ),
    "GPT2Tokenizer, prefix space": lambda: directory(class_="GPT2Tokenizer", add_prefix_space=True),
    "GPT2Tokenizer, post-processor": lambda: directory(bytes_tokenizer(post=True), class_="GPT2Tokenizer"),
    "GPT2Tokenizer, nulls": lambda: directory(class_="GPT2Tokenizer", bos_token=None, unk_token=None),
    "GPT2Tokenizer, digits kept by the file": lambda: directory(bytes_tokenizer(digits=True, merges=(("1", "2"),))),
    "GPTNeoXTokenizerFast": lambda: directory(bytes_tokenizer(post=True), class_="GPTNeoXTokenizerFast"),
    "Qwen2Tokenizer": lambda: directory(class_="Qwen2Tokenizer"),
    "Qwen2TokenizerFast, roles by default": lambda: directory(class_="Qwen2TokenizerFast", **NO_ROLES),
    "Qwen2, another class": lambda: directory(config={"model_type": "qwen2"}),
    "Qwen2, Llama's class": lambda: directory(class_="LlamaTokenizerFast", config={"model_type": "qwen2"}),
    "Qwen2, no class": lambda: directory(class_=None, config={"model_type": "qwen2"}),
    "Qwen3, no class": lambda: directory(class_=None, config={"model_type": "qwen3"}),
    "Qwen3, another class": lambda: directory(config={"model_type": "qwen3"}),
    "Qwen3, GPT-2's class": lambda: directory(class_="GPT2Tokenizer", config={"model_type": "qwen3"}),
    "Mistral, GPT-2's class": lambda: directory(
        bytes_tokenizer(digits=True, merges=(("1", "2"),)), class_="GPT2Tokenizer", config={"model_type": "mistral"}
    ),
    "class in config.json": lambda: directory(class_=None, config={"tokenizer_class": "GPT2Tokenizer"}, bos_token=...),
    "an unknown class": lambda: directory(class_="TinyTokenizer"),
    "code of its own beside a known class": lambda: directory(auto_map={"AutoTokenizer": ["x.XTokenizer", None]}),
    "LlamaTokenizerFast": words,
    "LlamaTokenizer": lambda: words("LlamaTokenizer"),
    "LlamaTokenizer, legacy": lambda: words(legacy=True),
    "LlamaTokenizer, not legacy": lambda: words(legacy=False),
    "LlamaTokenizer, no prefix space": lambda: words(add_prefix_space=False),
    "LlamaTokenizer, roles by default": lambda: words(bos_token=..., eos_token=..., unk_token=...),
    "LlamaTokenizer, no post-processor": lambda: words(made=words_tokenizer(post=False), add_bos_token=True),
    "LlamaTokenizer, pad is new": lambda: words(pad_token="<pad>"),
    "words as the file has them": lambda: words("PreTrainedTokenizerFast"),
    "words as the file has them, no prefix": lambda: words("PreTrainedTokenizerFast", words_tokenizer(prepend=False)),
    "words, Mistral": lambda: {**words(legacy=True), "config.json": {"model_type": "mistral"}},
    "words, added_tokens.json": lambda: {**words(), "added_tokens.json": {"<x>": 3 + 256 + len(WORDS)}},
    "vocab.json and merges.txt, GPT-2": lambda: plain_vocabulary("GPT2Tokenizer"),
    "vocab.json and merges.txt, Qwen2": lambda: plain_vocabulary("Qwen2Tokenizer", additional_special_tokens=[START]),
    "vocab.json and merges.txt, add_bos_token": lambda: plain_vocabulary("GPT2Tokenizer", add_bos_token=True),
    "vocab.json and merges.txt, both ends": lambda: plain_vocabulary(
        "GPT2Tokenizer", add_bos_token=True, add_eos_token=True
    ),
    "template in a file": lambda: {**directory(), "chat_template.jinja": "file {{ messages[0].content }}"},
    "template in a file only": lambda: {**directory(chat_template=...), "chat_template.jinja": "file {{ eos_token }}"},
    "templates by name": lambda: directory(
        chat_template=[{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes {{ eos_token }}"}]
    ),
    "templates by name, no default": lambda: directory(chat_template=[{"name": "rag", "template": "no"}]),
    "templates in a folder": lambda: {
        **directory(),
        "additional_chat_templates/tool_use.jinja": "no",
        "chat_template.jinja": "yes",
    },
    "templates in a folder, no default": lambda: {**directory(), "additional_chat_templates/tool_use.jinja": "no"},
    "template in chat_template.json": lambda: {
        **directory(chat_template=...),
        "chat_template.json": {"chat_template": "json"},
    },
    "no template": lambda: directory(chat_template=...),
    "template is null": lambda: directory(chat_template=None),
    "template names every role": lambda: directory(
        chat_template="{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}{{ image_token }}",
        image_token="<x>",
    ),
}

REFUSED: dict[str, tuple[Make, str]] = {
    "a gap in added_tokens.json": (lambda: {**directory(), "added_tokens.json": {"<x>": 300}}, r"added_tokens\.json"),
    "a gap in added_tokens_decoder": (
        lambda: directory(added_tokens_decoder={**DECODER, "300": added("<x>")}),
        r"tokenizer_config\.json gives '<x>' the id 300, but it becomes 261",
    ),
    "a gap in tokenizer.json": (lambda: _gap(), r"tokenizer\.json gives '<\|im_end\|>' the id 310"),
    "an id given twice": (
        lambda: directory(added_tokens_decoder={**DECODER, str(FIRST + 2): added("<x>")}),
        r"gives '<x>' the id 260",
    ),
    "a token with two ids": (
        lambda: directory(added_tokens_decoder={**DECODER, str(FIRST + 3): added(TURN)}),
        r"gives '<\|im_end\|>' the id 261",
    ),
    "another class": (lambda: directory(class_="GemmaTokenizerFast"), "tokenizer_class GemmaTokenizerFast"),
    "code of its own": (
        lambda: directory(class_="XTokenizer", auto_map={"AutoTokenizer": ["tokenization_x.XTokenizer", None]}),
        "auto_map asks for Python code .* XTokenizer is not known",
    ),
    "sentencepiece only": (
        lambda: {**words(), "tokenizer.json": None, "tokenizer.model": "x"},
        r"no tokenizer\.json, and tokenizer\.model alone is not read",
    ),
    "tiktoken only": (
        lambda: {**directory(), "tokenizer.json": None, "tiktoken.model": "x"},
        r"no tokenizer\.json, and tiktoken\.model alone",
    ),
    "tekken only": (
        lambda: {**directory(config={"model_type": "mistral"}), "tokenizer.json": None, "tekken.json": {}},
        r"no tokenizer\.json, and tekken\.json alone",
    ),
    "nothing": (lambda: {**directory(), "tokenizer.json": None}, r"no tokenizer\.json"),
    "vocab.json without merges": (
        lambda: {**plain_vocabulary("GPT2Tokenizer"), "merges.txt": None},
        r"no tokenizer\.json",
    ),
    "vocab.json of no known class": (lambda: plain_vocabulary("PreTrainedTokenizerFast"), r"no tokenizer\.json"),
    "fast_tokenizer_files": (
        lambda: directory(fast_tokenizer_files=["tokenizer.json", "tokenizer.4.0.0.json"]),
        "fast_tokenizer_files",
    ),
    "an object that is no token": (lambda: directory(bos_token={"text": "x"}), "bos_token has .* no token"),
    "a number that is no token": (lambda: directory(eos_token=5), "eos_token has 5, which is no token"),
    "a decoder that is a list": (lambda: directory(added_tokens_decoder=[1]), "added_tokens_decoder is not"),
    "added_tokens.json the wrong way": (
        lambda: {**directory(), "added_tokens.json": {"300": "<x>"}},
        r"added_tokens\.json is not an object of ids",
    ),
    "a template that is a number": (lambda: directory(chat_template=5), "chat_template is no text"),
}
"""What can't be had, and what the sentence names. Transformers gives the first five other ids without a word."""


def write(files: Files, place: Path) -> Path:
    for name, content in files.items():
        if content is not None:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            text = content if isinstance(content, str) else json.dumps(content)
            (place / name).write_text(text, encoding="utf-8")
    return place


def _padded() -> Tokenizer:
    made = bytes_tokenizer()
    made.enable_padding(pad_token="<pad>", pad_id=3, length=64)
    made.enable_truncation(4)
    return made


def _gap() -> Files:
    files = directory()
    files["tokenizer.json"]["added_tokens"][2]["id"] = 310
    return files
