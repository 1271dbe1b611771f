"""Text on one side, token ids on the other: a model's tokenizer, chat template and defaults.

Everything comes from the files of a model's directory, in Hugging Face's form, and
nothing in them is run but the template in its sandbox. Methods are safe to call
from several threads.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from services.gateway.detokenize import REPLACEMENT, ByteDetokenizer, Detokenizer, WindowDetokenizer
from services.gateway.sampling_defaults import SamplingDefaults, SamplingDefaultsError, sampling_defaults
from services.gateway.template import ChatTemplate, Message, TemplateRefused
from services.gateway.tokenizer.directory import load_tokenizer
from services.gateway.tokenizer.ends import stated_ends, turn_ends
from services.gateway.tokenizer.files import TextError, read_json
from services.gateway.tokenizer.token_bytes import token_bytes
from services.gateway.toy_text import CHAT_TEMPLATE, END_ID, VOCAB_SIZE, toy_tokenizer
from services.models.cache import MARKER

SHORTENED = 4
"""A normalizer may shorten text; none of those in use shortens it to less than a quarter."""


class Text:
    """One model's text side.

    end_ids: tokens that end an answer; eos_id: the one of them that the tokenizer names. special_ids: those
    without text when special tokens are skipped. vocab_size: ids are in [0, vocab_size). context: the
    model's own longest sequence, or None.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        template: ChatTemplate | None,
        end_ids: frozenset[int],
        eos_id: int | None = None,
        vocab_size: int | None = None,
        context: int | None = None,
        defaults: SamplingDefaults | None = None,
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._bytes = token_bytes(tokenizer)
        self._template = template
        self.eos_id = eos_id
        self.special_ids = _special_ids(tokenizer)
        self.vocab_size = vocab_size or tokenizer.get_vocab_size()
        self.end_ids = frozenset(each for each in end_ids if 0 <= each < self.vocab_size)
        self.context = context
        self.defaults = defaults or SamplingDefaults()
        self._longest_token = max(map(len, tokenizer.get_vocab())) * (1 if tokenizer.normalizer is None else SHORTENED)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        # as a batch of one: `encode` holds Python's global lock all the while, 0.2 s for 100,000 characters
        return list(self._tokenizer.encode_batch([text], add_special_tokens=add_special_tokens)[0].ids)

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        if self._bytes is None:
            return self._tokenizer.decode(list(tokens), skip_special_tokens=skip_special_tokens)
        return self._bytes.text(self._shown(tokens, skip_special_tokens))

    def echo(self, prompt: Sequence[int], *, skip_special_tokens: bool) -> str:
        """The text of a prompt, without a character that it only begins: its answer's detokenizer tells that one."""
        if self._bytes is None:
            return self.decode(prompt, skip_special_tokens=skip_special_tokens).rstrip(REPLACEMENT)
        return self._bytes.finished(self._shown(prompt, skip_special_tokens))

    def detokenizer(self, prompt: Sequence[int], *, skip_special_tokens: bool, echoed: bool = False) -> Detokenizer:
        """For the answer to ``prompt``. echoed: whether the text of the prompt is told before."""
        hidden = self.special_ids if skip_special_tokens else frozenset[int]()
        if self._bytes is None:
            decode = partial(self._tokenizer.decode, skip_special_tokens=False)
            return WindowDetokenizer(decode, hidden=hidden, prompt=prompt)
        return ByteDetokenizer(self._bytes, hidden=hidden, prompt=prompt, echoed=echoed)

    def _shown(self, tokens: Sequence[int], skip_special_tokens: bool) -> Sequence[int]:
        return [token for token in tokens if token not in self.special_ids] if skip_special_tokens else tokens

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """Each token by itself, as the vocabulary writes it."""
        return [self._tokenizer.id_to_token(token) or "" for token in tokens]

    def certainly_longer_than(self, tokens: int, text: str) -> bool:
        """Whether ``text`` cannot fit into that many tokens; so that a huge one need not be tokenized to know."""
        return len(text) > tokens * self._longest_token

    @property
    def template_variables(self) -> frozenset[str]:
        """Names that the chat template reads and a request may set."""
        return frozenset() if self._template is None else self._template.variables

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
    return Text(
        toy_tokenizer(),
        template=ChatTemplate(CHAT_TEMPLATE, special),
        end_ids=end_ids,
        eos_id=END_ID,
        vocab_size=VOCAB_SIZE,
    )


def _special_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """What the library leaves out where special tokens are skipped. That is also a token which was added as special and
    then again as an ordinary one: its flag is off from then on, and it is left out all the same (tokenizers 0.23)."""

    def is_left_out(token: int) -> bool:
        whole, skipped = (tokenizer.decode([token], skip_special_tokens=skip) for skip in (False, True))
        return whole != skipped

    added = tokenizer.get_added_tokens_decoder().items()
    return frozenset(token for token, each in added if each.special or is_left_out(token))


def load_text(directory: Path) -> Text:
    """From a directory in Hugging Face's form. Raises TextError."""
    loaded = load_tokenizer(directory)
    config = read_json(directory / "config.json")
    generation = read_json(directory / "generation_config.json")
    try:
        template = None if loaded.template is None else ChatTemplate(loaded.template, loaded.special)
    except TemplateRefused as error:
        raise TextError(f"{directory}: {error}") from error
    model = config.get("text_config") or config
    ends = stated_ends(loaded.eos_id, generation, model)
    if template is not None:
        ends |= turn_ends(loaded.tokenizer, template, ends, gguf=(directory / MARKER).is_file())
    return Text(
        loaded.tokenizer,
        template=template,
        end_ids=ends,
        eos_id=loaded.eos_id,
        vocab_size=model.get("vocab_size"),
        context=model.get("max_position_embeddings"),
        defaults=_defaults(directory, generation),
    )


def _defaults(directory: Path, generation: Mapping[str, Any]) -> SamplingDefaults:
    try:
        return sampling_defaults(generation)
    except SamplingDefaultsError as error:
        raise TextError(f"{directory / 'generation_config.json'}: {error}") from error
