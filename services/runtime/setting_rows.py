"""One setting as help and docs show it, made from the field of a settings class that it is."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, EnumType
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from services.runtime.paths import NoHome
from services.runtime.settings import ENV_PREFIX, SIZE, CalledSettings, flag_of
from services.runtime.size import format_size


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as help and docs show it. default is None where it is required or unset."""

    name: str
    flag: str
    variable: str
    kind: str
    default: str | None
    required: bool
    help: str


def describe(settings: type[BaseSettings]) -> list[Setting]:
    """Every setting of one process, the shared ones last."""
    shared = CalledSettings.model_fields
    ordered = sorted(settings.model_fields.items(), key=lambda item: item[0] in shared)
    return [_describe(name, field) for name, field in ordered]


def _describe(name: str, field: FieldInfo) -> Setting:
    required = field.is_required()
    try:
        value = None if required else field.get_default(call_default_factory=True)
    except NoHome:
        value = None
    return Setting(
        name=name,
        flag=flag_of(name),
        variable=(ENV_PREFIX + name).upper(),
        kind=_kind(field),
        default=_shown(value, field),
        required=required,
        help=" ".join((field.description or "").split()),
    )


def _shown(value: object, field: FieldInfo) -> str | None:
    if value is None or value == ():
        return None
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int) and _is_size(field):
        return format_size(value)
    if isinstance(value, Path):
        home = os.path.expanduser("~")
        return str(value).replace(home, "~", 1) if str(value).startswith(home + os.sep) else str(value)
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return str(value)


def _kind(field: FieldInfo) -> str:
    if _is_size(field):
        return "SIZE"
    choices = [part for part in _parts(field.annotation) if part is not type(None)]
    if len(choices) == 1 and get_origin(choices[0]) is Literal:
        return "|".join(str(value) for value in get_args(choices[0]))
    if len(choices) == 1 and isinstance(choices[0], EnumType):
        members: Iterable[Enum] = choices[0]
        return "|".join(str(member.value) for member in members)
    kinds: dict[Any, str] = {int: "N", float: "X", bool: "on|off", Path: "PATH"}
    return kinds.get(choices[0], "TEXT") if choices else "TEXT"


def _parts(annotation: Any) -> tuple[Any, ...]:  # Any: annotations have no better static type
    """The members of a union, or the annotation itself."""
    if get_origin(annotation) is Union or type(annotation).__name__ == "UnionType":
        return get_args(annotation)
    return (annotation,)


def _is_size(field: FieldInfo) -> bool:
    """Whether ``Size`` was used, alone or in a union with None."""
    inner = [meta for part in _parts(field.annotation) for meta in getattr(part, "__metadata__", ())]
    return SIZE in [*field.metadata, *inner]


def is_list(annotation: Any) -> bool:
    return get_origin(annotation) in (tuple, list)
