"""Parameters that clients know and Moonpool does not do: refused by name, never ignored.

Each has values that ask for nothing (a factor of 1, no tools); those are let pass,
as clients send them unasked. Parameters without any effect on the answer's text
(user, metadata, store, ..) are none of this table's business.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.gateway.errors import ApiError, bad_request

Asks = Callable[[object], bool]
"""Whether a value asks for something."""


def _truthy(value: object) -> bool:
    return bool(value)


def _given(value: object) -> bool:
    return value is not None and value is not False


def _not_zero(value: object) -> bool:
    return value is not None and value != 0


def _not_one(value: object) -> bool:
    return value is not None and value != 1


def _over_one(value: object) -> bool:
    return value is not None and not (isinstance(value, int | float) and value <= 1)


def _not_text(value: object) -> bool:
    return value is not None and not (isinstance(value, Mapping) and value.get("type") == "text")


def _more_than_text(value: object) -> bool:
    return bool(value) and value != ["text"]


def _chooses_tools(value: object) -> bool:
    return value not in (None, "none", "auto")


@dataclass(frozen=True, slots=True)
class Refusal:
    """asks: which values are refused. why: the end of a sentence that starts with the parameter's name."""

    asks: Asks
    why: str


_FACTOR = Refusal(_not_one, "is not supported: factors other than 1 change what is sampled")
_CONSTRAINED = Refusal(_truthy, "is not supported: output cannot be constrained to a grammar")
_TOOLS = Refusal(_truthy, "is not supported: answers are text, never tool calls")

REFUSED: Mapping[str, Refusal] = {
    "allowed_token_ids": Refusal(_truthy, "is not supported"),
    "audio": Refusal(_truthy, "is not supported: answers are text"),
    "bad_words": Refusal(_truthy, "is not supported"),
    "best_of": Refusal(_over_one, "is not supported above 1; use n"),
    "chat_template": Refusal(_truthy, "is not supported: the model's own chat template is used"),
    "documents": Refusal(_truthy, "is not supported: put them into the messages"),
    "function_call": Refusal(_chooses_tools, _TOOLS.why),
    "functions": _TOOLS,
    "guided_choice": _CONSTRAINED,
    "guided_grammar": _CONSTRAINED,
    "guided_json": _CONSTRAINED,
    "guided_regex": _CONSTRAINED,
    "length_penalty": _FACTOR,
    "logit_bias": Refusal(_truthy, "is not supported"),
    "logits_processors": Refusal(_truthy, "is not supported"),
    "logprobs": Refusal(_given, "is not supported: answers come without probabilities"),
    "modalities": Refusal(_more_than_text, "is not supported: answers are text"),
    "prompt_embeds": Refusal(_truthy, "is not supported"),
    "prompt_logprobs": Refusal(_given, "is not supported: answers come without probabilities"),
    "response_format": Refusal(_not_text, "is not supported other than text"),
    "structured_outputs": _CONSTRAINED,
    "suffix": Refusal(_truthy, "is not supported: text is continued, not filled in"),
    "tool_choice": Refusal(_chooses_tools, _TOOLS.why),
    "tools": _TOOLS,
    "top_logprobs": Refusal(_not_zero, "is not supported: answers come without probabilities"),
    "truncate_prompt_tokens": Refusal(_given, "is not supported: prompts are never cut"),
    "use_beam_search": Refusal(_truthy, "is not supported"),
}


def refused(extra: Mapping[str, object]) -> ApiError | None:
    """The first of a body's undeclared fields that asks for what is not supported, as an error."""
    for name, value in extra.items():
        refusal = REFUSED.get(name)
        if refusal is None or not refusal.asks(value):
            continue
        if name == "tools" and extra.get("tool_choice") == "none":
            continue
        return bad_request(f"`{name}` {refusal.why}.", name, "unsupported_parameter")
    return None
