"""Text on one side, token ids on the other: a model's tokenizer, chat template and defaults.

Everything comes from the files of a model's directory, in Hugging Face's form, and
nothing in them is run but the template in its sandbox. Methods are safe to call
from several threads.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from services.gateway.sampling_defaults import SamplingDefaults, SamplingDefaultsError, sampling_defaults
from services.gateway.template import ChatTemplate, Message, TemplateRefused
from services.gateway.toy_text import CHAT_TEMPLATE, END_ID, VOCAB_SIZE, toy_tokenizer

SHORTENED = 4
"""A normalizer may shorten text; none of those in use shortens it to less than a quarter."""


class TextError(Exception):
    """The model's files cannot be used for text; the message is a sentence for the operator."""


class Text:
    """One model's text side.

    end_ids: tokens that end an answer. special_ids: those without text when special tokens are
    skipped. vocab_size: ids are in [0, vocab_size). context: the model's own longest sequence, or None.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        template: ChatTemplate | None,
        end_ids: frozenset[int],
        vocab_size: int | None = None,
        context: int | None = None,
        defaults: SamplingDefaults | None = None,
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._template = template
        self.end_ids = end_ids
        self.special_ids = frozenset(
            token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special
        )
        self.vocab_size = vocab_size or tokenizer.get_vocab_size()
        self.context = context
        self.defaults = defaults or SamplingDefaults()
        self._longest_token = max(map(len, tokenizer.get_vocab())) * (1 if tokenizer.normalizer is None else SHORTENED)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        # as a batch of one: `encode` holds Python's global lock all the while, 0.2 s for 100,000 characters
        return list(self._tokenizer.encode_batch([text], add_special_tokens=add_special_tokens)[0].ids)

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=skip_special_tokens)

    def decode_all(self, tokens: Sequence[int]) -> str:
        """Special tokens included; what a Detokenizer is made with."""
        return self._tokenizer.decode(tokens, skip_special_tokens=False)

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """Each token by itself, as the vocabulary writes it."""
        return [self._tokenizer.id_to_token(token) or "" for token in tokens]

    def certainly_longer_than(self, tokens: int, text: str) -> bool:
        """Whether ``text`` cannot fit into that many tokens; so that a huge one need not be tokenized to know."""
        return len(text) > tokens * self._longest_token

    def render_chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt of a conversation; encode it without special tokens, the template writes its own.

        Raises TemplateRefused.
        """
        if self._template is None:
            raise TemplateRefused("this model has no chat template; use /v1/completions")
        return self._template.render(
            messages,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            variables=variables,
        )


def toy_text() -> Text:
    """For the toy engine."""
    special = {"eos_token": "<|end|>"}
    end_ids = frozenset({END_ID})
    return Text(toy_tokenizer(), template=ChatTemplate(CHAT_TEMPLATE, special), end_ids=end_ids, vocab_size=VOCAB_SIZE)


def load_text(directory: Path) -> Text:
    """From a directory in Hugging Face's form. Raises TextError."""
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise TextError(f"{directory} has no tokenizer.json (tokenizers of other forms are not supported)")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise TextError(f"{path} is not a tokenizer: {error}") from error
    config = _read(directory / "config.json")
    tokenizer_config = _read(directory / "tokenizer_config.json")
    generation = _read(directory / "generation_config.json")
    special = _special_tokens(tokenizer_config)
    source = _template_source(directory, tokenizer_config)
    try:
        template = None if source is None else ChatTemplate(source, special)
    except TemplateRefused as error:
        raise TextError(f"{directory}: {error}") from error
    model = config.get("text_config", config)
    return Text(
        tokenizer,
        template=template,
        end_ids=_end_ids(tokenizer, special, generation, model),
        vocab_size=model.get("vocab_size"),
        context=model.get("max_position_embeddings"),
        defaults=_defaults(directory, generation),
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TextError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise TextError(f"{path} is not a JSON object")
    return document


def _special_tokens(tokenizer_config: Mapping[str, Any]) -> dict[str, str]:
    """bos_token and the like: written as text, or as an object with ``content``."""
    named = {key: value for key, value in tokenizer_config.items() if key.endswith("_token")}
    contents = {key: value.get("content") if isinstance(value, dict) else value for key, value in named.items()}
    return {key: value for key, value in contents.items() if isinstance(value, str)}


def _template_source(directory: Path, tokenizer_config: Mapping[str, Any]) -> str | None:
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    source = tokenizer_config.get("chat_template")
    if isinstance(source, list):  # several, by name
        by_name = {each.get("name"): each.get("template") for each in source if isinstance(each, dict)}
        source = by_name.get("default")
    return source if isinstance(source, str) else None


def _end_ids(
    tokenizer: Tokenizer, special: Mapping[str, str], generation: Mapping[str, Any], model: Mapping[str, Any]
) -> frozenset[int]:
    """The tokenizer's end token and the generation config's; the model config's where that says nothing."""
    named = tokenizer.token_to_id(special["eos_token"]) if "eos_token" in special else None
    listed = generation.get("eos_token_id", model.get("eos_token_id"))
    ids = [named, *(listed if isinstance(listed, list) else [listed])]
    return frozenset(each for each in ids if isinstance(each, int))


def _defaults(directory: Path, generation: Mapping[str, Any]) -> SamplingDefaults:
    try:
        return sampling_defaults(generation)
    except SamplingDefaultsError as error:
        raise TextError(f"{directory / 'generation_config.json'}: {error}") from error
