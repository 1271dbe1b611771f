"""Fields that clients know and Moonpool does not do: refused by name, never ignored.

Each has values that ask for nothing (a factor of 1, no tools); those are let pass, as clients send them unasked.
"""

from collections.abc import Collection, Iterator, Mapping

from services.gateway.errors import ApiError, bad_request
from services.gateway.parameters.harmless import HARMLESS
from services.gateway.parameters.refusal import Refusal
from services.gateway.parameters.refused import (
    OF_THE_PROMPT,
    REFUSED,
    REFUSED_OF_MESSAGES,
    REFUSED_OF_NVEXT,
    REFUSED_OF_TEMPLATES,
)
from services.gateway.schemas import Body, ConversationBody, GenerationBody

UNSUPPORTED = "unsupported_parameter"

__all__ = ["REFUSED", "check_supported", "refused", "unknown"]


def check_supported(body: Body) -> None:
    """Raises ApiError for the first field of the body, or of what it holds, that asks for what is not done.

    Of bodies that are only tokenized, fields that the prompt does not depend on may ask for anything.
    """
    extra = body.model_extra or {}
    if isinstance(body, GenerationBody):
        error = refused(extra, penalized=body.penalized) or _misplaced(body, extra)
    else:
        error = refused({name: value for name, value in extra.items() if name in OF_THE_PROMPT})
    if error is None and isinstance(body, ConversationBody):
        error = _refused_of_conversation(body)
    if error is not None:
        raise error


def refused(extra: Mapping[str, object], *, penalized: bool = True) -> ApiError | None:
    """The first of a body's undeclared fields that asks for what is not supported, as an error.

    penalized: whether the request has a penalty, which the window of penalties is about.
    """
    passed = {"tools"} if extra.get("tool_choice") == "none" else set()
    passed |= set() if penalized else {"repeat_last_n"}
    error = _first(_refused(name, value, REFUSED) for name, value in extra.items() if name not in passed)
    nvext = extra.get("nvext")
    if error is None and not isinstance(nvext, Mapping | None):
        return bad_request("`nvext` must be an object.", "nvext")
    return error or _refused_within(nvext, "nvext", REFUSED_OF_NVEXT)


def unknown(body: Body, template_variables: Collection[str] = ()) -> list[str]:
    """The fields that no table has, and that were given; variables that the chat template does not read."""
    names = [name for name, value in (body.model_extra or {}).items() if value is not None and not _known(name)]
    if isinstance(body, GenerationBody):
        options = body.stream_options and body.stream_options.model_extra
        names += [f"stream_options.{name}" for name in options or {} if name != "include_obfuscation"]
    if isinstance(body, ConversationBody):
        unread = (body.chat_template_kwargs or {}).keys() - set(template_variables)
        names += [f"chat_template_kwargs.{name}" for name in sorted(unread)]
    return names


def _known(name: str) -> bool:
    return name in REFUSED or name in HARMLESS or name == "nvext"


def _misplaced(body: GenerationBody, extra: Mapping[str, object]) -> ApiError | None:
    """A field of the other kind of completions."""
    for name, path in body.elsewhere.items():
        if extra.get(name) not in (None, False, "", "none", [], {}):
            return bad_request(f"`{name}` is not supported here: it is a field of {path}.", name, UNSUPPORTED)
    return None


def _refused_of_conversation(body: ConversationBody) -> ApiError | None:
    extras = [message.model_extra or {} for message in body.messages]
    return _refused_within(body.chat_template_kwargs, "chat_template_kwargs", REFUSED_OF_TEMPLATES) or _first(
        _refused_within(extra, f"messages[{number}]", REFUSED_OF_MESSAGES) for number, extra in enumerate(extras)
    )


def _refused_within(given: object, where: str, table: Mapping[str, Refusal]) -> ApiError | None:
    """Of an object that is a field itself."""
    if not isinstance(given, Mapping):
        return None
    return _first(_refused(name, value, table, f"{where}.") for name, value in given.items())


def _refused(name: str, value: object, table: Mapping[str, Refusal], where: str = "") -> ApiError | None:
    refusal = table.get(name)
    if refusal is None or not refusal.asks(value):
        return None
    return bad_request(f"`{where}{name}` {refusal.why}.", f"{where}{name}", UNSUPPORTED)


def _first(errors: Iterator[ApiError | None]) -> ApiError | None:
    return next((error for error in errors if error is not None), None)
