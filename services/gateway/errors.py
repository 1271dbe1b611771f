"""Everything that a client can be told went wrong, in OpenAI's shape.

``{"error": {"message", "type", "param", "code"}}``: param names the field of the
request, code is for programs, message is a sentence for people.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

INVALID = "invalid_request_error"
SERVER = "server_error"

LONGEST_NAME = 128
"""Characters of a name that an error repeats."""


@dataclass(slots=True, eq=False)  # not frozen: context managers set an exception's traceback
class ApiError(Exception):
    """An answer that is an error. retry_after_s: None where trying again would not help. about: more headers.

    futile: when asking again may help is told, for other requests; but this one would hear the same, so that a client
    is not to come back of itself.
    """

    status: int
    message: str
    kind: str = INVALID
    param: str | None = None
    code: str | None = None
    retry_after_s: float | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    futile: bool = False

    def __str__(self) -> str:
        return self.message

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> Mapping[str, str]:
        """Retry-After is whole seconds, 1 at least; the openai client also reads the exact milliseconds."""
        if self.retry_after_s is None:
            return {**self.about, "x-should-retry": "false"} if self.status >= 500 else self.about
        seconds = max(1, math.ceil(self.retry_after_s))
        milliseconds = max(1, round(self.retry_after_s * 1000))
        again = {"x-should-retry": "false"} if self.futile else {}
        return {**self.about, "retry-after": str(seconds), "retry-after-ms": str(milliseconds), **again}


def quoted(name: str) -> str:
    """A name that a client gave, in backquotes, shortened."""
    shown = shortened(name)
    return f"`{shown}`" if len(name) <= LONGEST_NAME else f"`{shown}`, which has {len(name)} characters"


def shortened(name: str) -> str:
    """At most ``LONGEST_NAME`` of its characters; what is no printable one (controls, marks that turn the direction of
    writing, halves of surrogates) as Python escapes it."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name[:LONGEST_NAME])
    return shown if len(name) <= LONGEST_NAME else f"{shown}..."


def sentence(clause: str) -> str:
    """What another process gave as its reason, as people are told it."""
    return clause[:1].upper() + clause[1:] + ("" if clause.endswith((".", "!", "?")) else ".")


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(400, message, param=param, code=code)


def no_such_model(name: str) -> ApiError:
    return ApiError(404, f"The model {quoted(name)} does not exist.", param="model", code="model_not_found")


def too_long(param: str, *, longest: int, prompt_tokens: int, at_least: bool = False) -> ApiError:
    """The prompt leaves no room for an answer."""
    count = f"at least {prompt_tokens}" if at_least else str(prompt_tokens)
    message = (
        f"This model's maximum context length is {longest} tokens. However, your prompt contains {count} tokens, "
        "and an answer needs at least one. Please reduce the length of the prompt."
    )
    return bad_request(message, param, "context_length_exceeded")


def too_many_tokens(param: str, *, longest: int, prompt_tokens: int, wanted: int) -> ApiError:
    """The prompt fits, what is asked for after it does not."""
    message = (
        f"This model's maximum context length is {longest} tokens. However, you requested {prompt_tokens + wanted} "
        f"tokens ({prompt_tokens} in the prompt, {wanted} in the completion). Please reduce the length of the prompt "
        "or of the completion."
    )
    return bad_request(message, param, "context_length_exceeded")


def busy(message: str, *, retry_after_s: float, code: str = "rate_limit_exceeded", futile: bool = False) -> ApiError:
    """429: there is work for everyone here already."""
    return ApiError(429, message, "rate_limit_error", code=code, retry_after_s=retry_after_s, futile=futile)


def unavailable(message: str, *, retry_after_s: float = 1.0, code: str = "service_unavailable") -> ApiError:
    """503: nobody can do it now."""
    return ApiError(503, message, SERVER, code=code, retry_after_s=retry_after_s)


def our_bug(request_id: str) -> ApiError:
    """500: what happened is in the logs, under this id, and nowhere else."""
    return ApiError(500, f"Internal error. The log has it as request {request_id}.", SERVER, code="internal_error")
