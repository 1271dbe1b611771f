"""Settings of a process: flags over environment over defaults, described once.

Each process has one frozen subclass of ``ProcessSettings``. The sentence under a
field is its ``--help`` and its row in docs/settings.md; the field ``max_num_seqs``
is the flag ``--max-num-seqs`` and the variable ``MOONPOOL_MAX_NUM_SEQS``. Core
objects are given values, never settings.
"""

import argparse
import os
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, EnumType
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar, Union, get_args, get_origin

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.runtime.paths import NoHome
from services.runtime.size import format_size, parse_size

ENV_PREFIX = "MOONPOOL_"
BAD_USAGE = 2
"""Exit status of a process that was started with flags or variables it cannot understand."""


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _split(value: object) -> object:
    """``"a,b"``, ``["a", "b,c"]`` (a repeated flag) or a tuple: always the single items."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple):
        return tuple(item.strip() for text in value for item in str(text).split(",") if item.strip())
    return value


SIZE = BeforeValidator(_size)
Size = Annotated[int, SIZE]
"""Bytes, written as ``512MiB``, ``4GiB`` or a plain number."""

NameList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Several names: separated by commas, or the flag given several times."""

LogLevel = Literal["debug", "info", "warning", "error"]


_REASONS = {
    "int_parsing": "has to be a whole number",
    "int_from_float": "has to be a whole number",
    "float_parsing": "has to be a number",
    "bool_parsing": "has to be on or off",
    "greater_than_equal": "has to be at least {ge}",
    "greater_than": "has to be more than {gt}",
    "less_than_equal": "has to be at most {le}",
    "less_than": "has to be less than {lt}",
    "literal_error": "has to be {expected}",
    "enum": "has to be {expected}",
    "string_pattern_mismatch": "has to look like {pattern}",
}
"""By pydantic's type of mistake."""


class CommandSettings(BaseSettings):
    """How every command reads its settings."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        env_ignore_empty=True,
        protected_namespaces=(),
    )


class ProcessSettings(CommandSettings):
    """What all processes can be told."""

    tls_cert: Path | None = None
    """This process's certificate (PEM, chain included); it names the host that others call it by."""

    tls_key: Path | None = None
    """The key of that certificate (PEM, not encrypted)."""

    tls_ca: Path | None = None
    """The authority (PEM) that every process of the deployment has its certificate from; others are turned away."""

    insecure_network: bool = False
    """Listen beyond this machine without TLS: where the network itself keeps strangers out."""

    log_level: LogLevel = "info"
    """How much is logged; requests one by one at debug, tokens and prompts never."""

    @model_validator(mode="after")
    def _tls_whole(self) -> Self:
        given = {name: getattr(self, name) is not None for name in ("tls_cert", "tls_key", "tls_ca")}
        if any(given.values()) and not all(given.values()):
            missing = ", ".join(flag_of(name) for name, there in given.items() if not there)
            raise ValueError(f"TLS needs --tls-cert, --tls-key and --tls-ca; missing: {missing}")
        return self


class MemberSettings(ProcessSettings):
    """What processes can be told that find each other, by flags or by a registry."""

    redis_url: str | None = None
    """The Redis by which processes find each other, such as redis://host:6379/0; unset: flags say where others are."""

    deployment: str = Field(default="default", pattern=r"^[\w.-]+$")
    """The name under which they do so; deployments of different names share a Redis and don't meet."""

    host_id: str | None = Field(default=None, pattern=r"^[\w.-]+$")
    """This host's name in the registry: a worker uses the store that has the same one; unset: the host's name."""

    @property
    def host_name(self) -> str:
        """For the registry."""
        return self.host_id or socket.gethostname()


class CalledSettings(MemberSettings):
    """What members can be told that others call over gRPC."""

    advertise: str | None = Field(default=None, pattern=r"^[\w.:-]+$")
    """The name or address of this host for others, without a port; unset: the one that is listened at."""


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


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


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def load(settings: type[SettingsT], argv: Sequence[str], *, prog: str) -> SettingsT:
    """Read ``argv`` and the environment; prints help or what is wrong and exits (0 or 2) where it must."""
    parser = _parser(settings, prog)
    given = {name: value for name, value in vars(parser.parse_args(list(argv))).items() if value is not None}
    try:
        return settings(**given)
    except ValidationError as error:
        wrong = [_sentence(problem, given) for problem in error.errors()]
    except NoHome as error:
        wrong = [str(error)]
    for sentence in wrong:
        print(f"{prog}: {sentence}", file=sys.stderr)
    print(f"try '{prog} --help'", file=sys.stderr)
    raise SystemExit(BAD_USAGE)


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one sentence rather than a page of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_USAGE, f"{self.prog}: {message}\ntry '{self.prog} --help'\n")


def _parser(settings: type[BaseSettings], prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description=(settings.__doc__ or "").strip(),
        epilog=f"Each flag can also be given as a variable: --log-level as {ENV_PREFIX}LOG_LEVEL. Flags win.",
        allow_abbrev=False,
        argument_default=None,
    )
    for setting in describe(settings):
        annotation = settings.model_fields[setting.name].annotation
        words = setting.help.replace("%", "%%")
        if setting.default is not None and annotation is not bool:
            words += f" [{setting.default}]".replace("%", "%%")
        if setting.required:
            words += " (required)"
        if annotation is bool:
            parser.add_argument(setting.flag, help=words, action=argparse.BooleanOptionalAction)
        elif _is_list(annotation):
            parser.add_argument(setting.flag, help=words, action="append", metavar=setting.kind)
        else:
            parser.add_argument(setting.flag, help=words, metavar=setting.kind)
    return parser


def _sentence(problem: Mapping[str, Any], given: Mapping[str, object]) -> str:
    """What is wrong with one setting, named the way it was given."""
    if not problem["loc"]:
        return str(problem["msg"]).removeprefix("Value error, ")
    name = str(problem["loc"][0])
    variable = (ENV_PREFIX + name).upper()
    if problem["type"] == "missing":
        return f"{flag_of(name)} (or {variable}) is required"
    source = variable if name not in given and variable in os.environ else flag_of(name)
    return f"{source}: {_reason(problem)}, not {problem['input']!r}"


def _reason(problem: Mapping[str, Any]) -> str:
    """What a value has to be: pydantic's words, where there are no plainer ones."""
    reason = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    plain = _REASONS.get(str(problem["type"]))
    return plain.format(**problem.get("ctx", {})) if plain else f"{reason[:1].lower()}{reason[1:]}"


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


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) in (tuple, list)
