"""Fields that mean what another field means here: read as that one, and named as the client named them in errors."""

from collections.abc import Mapping
from typing import Any

from services.gateway.errors import bad_request

ALIASES: Mapping[str, str] = {
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "n_cmpl": "n",
    "n_predict": "max_tokens",
    "random_seed": "seed",
    "repeat_penalty": "repetition_penalty",
    "sampling_seed": "seed",
}


def renamed(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """The body with aliases under our names, and for those the name that the client used; raises ApiError.

    Any: a client's JSON. A field that is given under two names must have one value.
    """
    used = {alias: name for alias, name in ALIASES.items() if alias in body}
    if not used:
        return body, {}
    read = {field: value for field, value in body.items() if field not in ALIASES}
    given_as: dict[str, str] = {}
    for alias, name in used.items():
        if body[alias] is None:
            continue
        if read.get(name) is None:
            read[name], given_as[name] = body[alias], alias
        elif read[name] != body[alias]:
            raise bad_request(f"`{alias}` and `{given_as.get(name, name)}` mean the same and differ.", alias)
    return read, given_as
