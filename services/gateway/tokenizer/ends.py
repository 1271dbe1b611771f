"""Which tokens end an answer.

Those that the files state, as vLLM 0.32 takes them. Where none of these is what the chat template writes after an
answer, that token as well: else answers would run to their limit in empty text. A GGUF file states one or two only,
so for one that has a chat template the texts that llama.cpp knows count too, whatever types the file gives them
(``src/llama-vocab.cpp`` as in llama-cpp-python 0.3.36). A model without a template is left as it is: what its
vocabulary holds beside its own end may be unused.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer

from services.gateway.template import ChatTemplate, TemplateRefused
from services.models.gguf_vocabulary import TURN_ENDS


def stated_ends(eos_id: int | None, generation: Mapping[str, Any], model: Mapping[str, Any]) -> frozenset[int]:
    """The tokenizer's end token and the generation config's; the model config's where that says nothing."""
    listed = generation.get("eos_token_id")
    if listed is None:
        listed = model.get("eos_token_id")
    ids = [eos_id, *(listed if isinstance(listed, list) else [listed])]
    return frozenset(each for each in ids if type(each) is int)


def turn_ends(tokenizer: Tokenizer, template: ChatTemplate, stated: frozenset[int], *, gguf: bool) -> frozenset[int]:
    """What ends an answer beside ``stated``. Makes special tokens of those that a GGUF file gives another type."""
    if gguf:
        known = _known(tokenizer)
        tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in known])
        return frozenset(known.values())
    written = _written(tokenizer, template)
    return frozenset() if written is None or written in stated else frozenset((written,))


def _known(tokenizer: Tokenizer) -> dict[str, int]:
    """llama.cpp's texts that this vocabulary has, with its exceptions."""
    found = {text: id_ for text in sorted(TURN_ENDS) if (id_ := tokenizer.token_to_id(text)) is not None}
    if {"<|return|>", "<|call|>"} <= found.keys() or (
        "<|flush|>" in found and found.keys() & {"<|call|>", "<|calls|>"}
    ):
        found.pop("<|end|>", None)  # ends a message there, and not the answer
    if "<|tool_response>" in found or tokenizer.token_to_id("<|plamo:eos|>") is not None:
        found.pop("</s>", None)  # an ordinary word there
    return found


def _written(tokenizer: Tokenizer, template: ChatTemplate) -> int | None:
    """The special token that the template writes right after an answer."""
    try:
        after = template.after_answer().lstrip()
    except TemplateRefused:
        return None
    special = (token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special)
    text = max(_starts(after, special), key=len, default=None)
    return None if text is None else tokenizer.token_to_id(text)


def _starts(text: str, candidates: Iterable[str]) -> list[str]:
    return [each for each in candidates if text.startswith(each)]
