"""The bodies that clients send, checked field by field.

Numbers must be numbers (a string or a boolean is a mistake worth telling), null
always means "not given", and fields that nobody here knows are let pass, as
clients of other servers send many. What fields mean together is checked in chat.py
and completions.py; what is known but not supported, in unsupported.py.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from scheduler.vocabulary import Priority
from services.gateway.bounds import (
    LEAST_INTEGER,
    MIN_P,
    PENALTY,
    REPETITION_PENALTY,
    SAID,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    Most,
    Real,
    Whole,
    shown,
)
from services.gateway.errors import ApiError, bad_request, shortened
from services.gateway.parameters.aliases import renamed

MOST_STOPS = 64
MOST_CHOICES = 128
LONGEST_STOP = 1024
MOST_STOP_CHARACTERS = 16384
"""Of all stop strings: each piece of an answer is compared with them, which took 0.2 ms at worst."""

MOST_STOP_IDS = 1024
LONGEST_SALT = 1024
"""As in vLLM."""

MOST_MESSAGES = 8192
"""Of a conversation, and parts of one message: each is four tokens in all chat templates at least."""

SLO_MS = Real(0.001, 1e9)
"""At most eleven days: whoever writes more has mistaken the unit."""

WRONG = {
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "string_too_short": "must not be empty",
    "string_type": "must be a string",
    "too_short": "must not be empty",
}
"""pydantic's words are about Python's types, and its own working; ours follow the field's name."""


def _content(value: object) -> object:
    """A message's text; parts of text become one, a line each, as models without images expect it."""
    if not isinstance(value, list):
        if value is None or isinstance(value, str):
            return value
        raise PydanticCustomError("content", "must be a string or a list of text parts")
    if len(value) > MOST_MESSAGES:
        bound = {"most": MOST_MESSAGES, "count": len(value)}
        raise PydanticCustomError(SAID, "must have at most {most} parts, not {count}", bound)
    return "\n".join(_part(number, part) for number, part in enumerate(value))


def _part(number: int, part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type") not in ("text", "input_text", "refusal"):
        kind = part.get("type") if isinstance(part, dict) else None
        raise PydanticCustomError(
            "content", "has part {number} of type {kind}; only text is read", {"number": number, "kind": shown(kind)}
        )
    text = part.get("refusal" if part["type"] == "refusal" else "text")
    if not isinstance(text, str):
        raise PydanticCustomError("content", "has part {number} without a text", {"number": number})
    return text


def _stop(value: object) -> object:
    stops = [value] if isinstance(value, str) else value
    if isinstance(stops, list) and len(stops) > MOST_STOPS:
        raise PydanticCustomError(
            SAID, "must be at most {most} strings, not {count}", {"most": MOST_STOPS, "count": len(stops)}
        )
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise PydanticCustomError("stop", "must be a string or a list of strings")
    if not all(stops):
        raise PydanticCustomError("stop", "must not be an empty string, nor hold one")
    longest = max(map(len, stops), default=0)
    if longest > LONGEST_STOP:
        bound = {"most": LONGEST_STOP, "longest": longest}
        raise PydanticCustomError(SAID, "must be strings of at most {most} characters, not {longest}", bound)
    if (count := sum(map(len, stops))) > MOST_STOP_CHARACTERS:
        bound = {"most": MOST_STOP_CHARACTERS, "count": count}
        raise PydanticCustomError(SAID, "must have at most {most} characters in all, not {count}", bound)
    return stops


def _prompt(value: object) -> object:
    """One prompt or several, text or token ids: always a list of prompts."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(type(token) is int for token in value):
            return [value]
        if len(value) > MOST_CHOICES and isinstance(value[0], str | list):
            bound = {"most": MOST_CHOICES, "count": len(value)}
            raise PydanticCustomError(SAID, "must be at most {most} prompts, not {count}", bound)
        if all(isinstance(each, str) for each in value):
            return value
        if all(isinstance(each, list) and all(type(token) is int for token in each) for each in value):
            return value
    raise PydanticCustomError(
        SAID,
        "must be a string, a list of strings, a list of token ids, or a list of lists of token ids, not " + _odd(value),
    )


def _odd(prompt: object) -> str:
    """What about it is no prompt."""
    if not isinstance(prompt, list):
        return "an object" if isinstance(prompt, dict) else shown(prompt)
    flat = [token for each in prompt for token in (each if isinstance(each, list) else [each])]
    wrong = next((each for each in flat if type(each) is not int and not isinstance(each, str)), None)
    if not flat or not prompt:
        return "an empty list"
    return "a mixture of them" if wrong is None else f"a list with {_odd(wrong)}"


def _priority(value: object) -> object:
    """As vLLM takes it, an integer: whoever has a lower one goes first, 0 unless told."""
    if value in ("interactive", "batch"):
        return Priority(value)
    if type(value) is int:
        return Priority.BATCH if value > 0 else Priority.INTERACTIVE
    raise PydanticCustomError("priority", 'must be "interactive", "batch", or an integer')


Integer = Annotated[int, Whole()]
Integers = Annotated[list[Integer], Field(fail_fast=True)]
Content = Annotated[str | None, BeforeValidator(_content, json_schema_input_type=str | list[dict[str, Any]] | None)]
Stops = Annotated[list[str], BeforeValidator(_stop, json_schema_input_type=str | list[str])]
Prompts = Annotated[
    list[str | list[int]],
    BeforeValidator(_prompt, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]

Milliseconds = Annotated[float, SLO_MS]
PriorityClass = Annotated[
    Priority, BeforeValidator(_priority, json_schema_input_type=Literal["interactive", "batch"] | int)
]


class Body(BaseModel):
    """Any request body. Fields that are not declared stay in ``model_extra``."""

    model_config = ConfigDict(extra="allow", protected_namespaces=(), use_attribute_docstrings=True)

    model: str | None = None
    """The served model's name; may be left out."""


class StreamOptions(BaseModel):
    """How a stream tells its usage."""

    model_config = ConfigDict(extra="allow")

    include_usage: StrictBool | None = None
    continuous_usage_stats: StrictBool | None = None


class Slo(BaseModel):
    """What a request wants instead of what the deployment promises. It is ours alone, so that a slip is told."""

    model_config = ConfigDict(extra="forbid")

    ttft_ms: Milliseconds | None = None
    tpot_ms: Milliseconds | None = None


class GenerationBody(Body):
    """What chat and text completions have in common. elsewhere: fields of the other kind, and its path."""

    elsewhere: ClassVar[Mapping[str, str]] = {}

    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Whole(1)] | None = None
    max_completion_tokens: Annotated[int, Whole(1)] | None = None
    min_tokens: Annotated[int, Whole(0)] | None = None
    temperature: Annotated[float, TEMPERATURE] | None = None
    top_p: Annotated[float, TOP_P] | None = None
    top_k: Annotated[int, TOP_K] | None = None
    min_p: Annotated[float, MIN_P] | None = None
    repetition_penalty: Annotated[float, REPETITION_PENALTY] | None = None
    presence_penalty: Annotated[float, PENALTY] | None = None
    frequency_penalty: Annotated[float, PENALTY] | None = None
    n: Annotated[int, Whole(1, MOST_CHOICES)] | None = None
    seed: Annotated[int, Whole(LEAST_INTEGER, (1 << 64) - 1)] | None = None
    stop: Stops | None = None
    stop_token_ids: Annotated[Integers, Most(MOST_STOP_IDS)] | None = None
    ignore_eos: StrictBool | None = None
    include_stop_str_in_output: StrictBool | None = None
    skip_special_tokens: StrictBool | None = None
    return_token_ids: StrictBool | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=LONGEST_SALT)] | None = None
    user: str | None = None
    slo: Slo | None = None
    priority: PriorityClass | None = None

    @property
    def penalized(self) -> bool:
        """Whether it asks for a penalty by itself."""
        return (
            self.repetition_penalty not in (None, 1)
            or self.presence_penalty not in (None, 0)
            or self.frequency_penalty not in (None, 0)
        )

    @property
    def wanted_tokens(self) -> tuple[int | None, str]:
        """The most tokens that were asked for, and under which name; the newer name wins."""
        if self.max_completion_tokens is not None:
            return self.max_completion_tokens, "max_completion_tokens"
        return self.max_tokens, "max_tokens"


class ChatMessage(BaseModel):
    """One turn of a conversation. What else it has (name, tool calls) is the template's business."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content = None


class ConversationBody(Body):
    """A conversation and how its prompt is made."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, fail_fast=True), Most(MOST_MESSAGES)]
    add_generation_prompt: StrictBool | None = None
    continue_final_message: StrictBool | None = None
    add_special_tokens: StrictBool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    enable_thinking: StrictBool | None = None


class ChatBody(GenerationBody, ConversationBody):
    """POST /v1/chat/completions."""

    elsewhere = dict.fromkeys(("echo", "prompt"), "/v1/completions")


class CompletionBody(GenerationBody):
    """POST /v1/completions."""

    elsewhere = dict.fromkeys(
        (
            "add_generation_prompt",
            "chat_template_kwargs",
            "continue_final_message",
            "enable_thinking",
            "messages",
            "reasoning_effort",
        ),
        "/v1/chat/completions",
    )

    prompt: Prompts
    echo: StrictBool | None = None
    add_special_tokens: StrictBool | None = None


class TokenizePromptBody(Body):
    """POST /tokenize with a text."""

    prompt: str
    add_special_tokens: StrictBool | None = None
    return_token_strs: StrictBool | None = None


class TokenizeChatBody(ConversationBody):
    """POST /tokenize with a conversation."""

    return_token_strs: StrictBool | None = None


class DetokenizeBody(Body):
    """POST /detokenize."""

    tokens: Integers


BodyT = TypeVar("BodyT", bound=Body)


def checked(kind: type[BodyT], read: Mapping[str, Any]) -> BodyT:
    """What was read as JSON, checked field by field; of a list, elements up to the first that is wrong.

    Raises ApiError naming the first field that is wrong.
    """
    read, given_as = renamed(read)
    try:
        return kind.model_validate(read)
    except ValidationError as error:
        raise _told(error.errors(include_url=False)[0], given_as) from None


def _told(problem: ErrorDetails, given_as: Mapping[str, str]) -> ApiError:
    """given_as: for fields that the client has under another name, that name."""
    name, *rest = problem["loc"]
    param, value = field_name((given_as.get(str(name), name), *rest)), problem["input"]
    match problem["type"]:
        case "missing":
            return bad_request(f"`{param}` is required.", param)
        case "extra_forbidden":
            return bad_request(f"`{param}` is unknown; there are {', '.join(Slo.model_fields)}.", param)
        case "literal_error":
            return bad_request(f"`{param}` must be {problem['ctx']['expected']}{_not(value)}.", param)
        case "list_type" | "string_type" if value is None:
            return bad_request(f"`{param}` is required.", param)
        case "said":
            return bad_request(f"`{param}` {problem['msg']}.", param)
        case "string_too_long":
            most = problem["ctx"]["max_length"]
            return bad_request(f"`{param}` must be at most {most} characters, not {len(value)}.", param)
        case other:
            return bad_request(f"`{param}` {WRONG.get(other, problem['msg'])}{_not(value)}.", param)


def field_name(path: tuple[int | str, ...]) -> str:
    """``("messages", 0, "content")`` as ``messages[0].content``."""
    name = ""
    for step in path:
        if isinstance(step, int):
            name += f"[{step}]"
        else:
            name += f".{shortened(step)}" if name else shortened(step)
    return name


def _not(value: object) -> str:
    """What was given instead; what is no single value may be long, and is not repeated."""
    return "" if isinstance(value, dict | list) or value == "" else f", not {shown(value)}"
