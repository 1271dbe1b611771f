"""Read a process's settings from its flags and the environment; a mistake is one sentence, named as it was given."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from services.runtime.paths import NoHome
from services.runtime.setting_rows import describe, is_list
from services.runtime.settings import ENV_PREFIX, flag_of

BAD_USAGE = 2
"""Exit status of a process that was started with flags or variables it cannot understand."""

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


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


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
        elif is_list(annotation):
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
