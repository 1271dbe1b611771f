"""The bodies that clients send, checked field by field.

Numbers must be numbers (a string or a boolean is a mistake worth telling), null
always means "not given", and fields that nobody here knows are let pass, as
clients of other servers send many. What fields mean together is checked in chat.py
and completions.py; what is known but not supported, in unsupported.py.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from scheduler.vocabulary import Priority
from services.gateway.errors import ApiError, bad_request

MOST_STOPS = 16
MOST_CHOICES = 128
LONGEST_STOP = 1024
SHORTEST_SLO_MS = 0.001
LONGEST_SLO_MS = 1e9
"""Eleven days: whoever writes more has mistaken the unit."""


def _number(value: object) -> object:
    if isinstance(value, bool | str):
        raise PydanticCustomError("number", "Input should be a number")
    return value


def _content(value: object) -> object:
    """A message's text; parts of text become one, a line each, as models without images expect it."""
    if not isinstance(value, list):
        if value is None or isinstance(value, str):
            return value
        raise PydanticCustomError("content", "Input should be a string or a list of text parts")
    return "\n".join(_part(number, part) for number, part in enumerate(value))


def _part(number: int, part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type") not in ("text", "input_text", "refusal"):
        kind = part.get("type") if isinstance(part, dict) else None
        raise PydanticCustomError(
            "content", "Part {number} should be of type text, not {kind}", {"number": number, "kind": repr(kind)[:60]}
        )
    text = part.get("refusal" if part["type"] == "refusal" else "text")
    if not isinstance(text, str):
        raise PydanticCustomError("content", "Part {number} has no text", {"number": number})
    return text


def _stop(value: object) -> object:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise PydanticCustomError("stop", "Input should be a string or a list of strings")
    if len(stops) > MOST_STOPS:
        raise PydanticCustomError("stop", "At most {most} stop strings are allowed", {"most": MOST_STOPS})
    if not all(stops):
        raise PydanticCustomError("stop", "A stop string cannot be empty")
    if max(map(len, stops), default=0) > LONGEST_STOP:
        raise PydanticCustomError("stop", "A stop string has at most {most} characters", {"most": LONGEST_STOP})
    return stops


def _prompt(value: object) -> object:
    """One prompt or several, text or token ids: always a list of prompts."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(type(token) is int for token in value):
            return [value]
        if all(isinstance(each, str) for each in value):
            return value
        if all(isinstance(each, list) and all(type(token) is int for token in each) for each in value):
            return value
    raise PydanticCustomError(
        "prompt", "Input should be a string, a list of strings, a list of token ids, or a list of lists of token ids"
    )


def _priority(value: object) -> object:
    """As vLLM takes it, an integer: whoever has a lower one goes first, 0 unless told."""
    if value in ("interactive", "batch"):
        return Priority(value)
    if type(value) is int:
        return Priority.BATCH if value > 0 else Priority.INTERACTIVE
    raise PydanticCustomError("priority", "Input should be interactive, batch, or an integer")


Integer = Annotated[int, BeforeValidator(_number)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Content = Annotated[str | None, BeforeValidator(_content, json_schema_input_type=str | list[dict[str, Any]] | None)]
Stops = Annotated[list[str], BeforeValidator(_stop, json_schema_input_type=str | list[str])]
Prompts = Annotated[
    list[str | list[int]],
    BeforeValidator(_prompt, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]

Milliseconds = Annotated[Number, Field(ge=SHORTEST_SLO_MS, le=LONGEST_SLO_MS)]
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

    include_usage: StrictBool | None = None
    continuous_usage_stats: StrictBool | None = None


class Slo(BaseModel):
    """What a request wants instead of what the deployment promises. It is ours alone, so that a slip is told."""

    model_config = ConfigDict(extra="forbid")

    ttft_ms: Milliseconds | None = None
    tpot_ms: Milliseconds | None = None


class GenerationBody(Body):
    """What chat and text completions have in common."""

    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[Integer, Field(ge=1)] | None = None
    min_tokens: Annotated[Integer, Field(ge=0)] | None = None
    temperature: Annotated[Number, Field(ge=0)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[Integer, Field(ge=-1, lt=1 << 31)] | None = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    n: Annotated[Integer, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: Annotated[Integer, Field(ge=-(1 << 63), lt=1 << 64)] | None = None
    stop: Stops | None = None
    stop_token_ids: list[Integer] | None = None
    ignore_eos: StrictBool | None = None
    include_stop_str_in_output: StrictBool | None = None
    skip_special_tokens: StrictBool | None = None
    return_token_ids: StrictBool | None = None
    cache_salt: Annotated[str, Field(min_length=1)] | None = None
    user: str | None = None
    slo: Slo | None = None
    priority: PriorityClass | None = None


class ChatMessage(BaseModel):
    """One turn of a conversation. What else it has (name, tool calls) is the template's business."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content = None


class ConversationBody(Body):
    """A conversation and how its prompt is made."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    add_generation_prompt: StrictBool | None = None
    continue_final_message: StrictBool | None = None
    add_special_tokens: StrictBool | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class ChatBody(GenerationBody, ConversationBody):
    """POST /v1/chat/completions."""

    max_completion_tokens: Annotated[Integer, Field(ge=1)] | None = None


class CompletionBody(GenerationBody):
    """POST /v1/completions."""

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

    tokens: list[Integer]


BodyT = TypeVar("BodyT", bound=Body)


def parse(kind: type[BodyT], raw: bytes) -> BodyT:
    """A checked body; raises ApiError naming the first field that is wrong."""
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise _told(error.errors(include_url=False)[0]) from None


def _told(problem: ErrorDetails) -> ApiError:
    if problem["type"] == "json_invalid":
        return bad_request(f"The body is not valid JSON: {problem['ctx']['error']}.")
    param = field_name(problem["loc"])
    if not param:
        return bad_request("The body must be a JSON object.")
    if problem["type"] == "missing":
        return bad_request(f"`{param}` is required.", param)
    reason = problem["msg"].replace(" after validation", "")  # whoever asks does not know that there is any
    return bad_request(f"`{param}`: {reason}{_shown(problem['input'])}.", param)


def field_name(path: tuple[int | str, ...]) -> str:
    """``("messages", 0, "content")`` as ``messages[0].content``."""
    name = ""
    for step in path:
        name += f"[{step}]" if isinstance(step, int) else f".{step}" if name else step
    return name


def _shown(value: object) -> str:
    """What was given instead, where that is short; a conversation is not repeated."""
    if isinstance(value, dict | list):
        return ""
    shown = repr(value)
    return f", not {shown}" if len(shown) <= 40 else ""
