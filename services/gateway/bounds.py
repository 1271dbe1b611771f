"""Numbers that a body may hold, and what is said of those that it may not: their exact bounds, in JSON's words.

pydantic's own bounds are told rounded where they are beyond 53 bits, one at a time, and of a number that is too long
not even what was sent.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

LEAST_INTEGER, MOST_INTEGER = -(1 << 63), (1 << 63) - 1
MOST_SHOWN = 60
"""Characters of what was sent."""

SAID = "said"
"""The type of an error whose sentence says already what was sent."""


@dataclass(frozen=True, slots=True)
class Whole:
    """For ``Annotated[int, Whole(..)]``: an integer; 3.0 is one, "3" and true are mistakes that are told."""

    least: int = LEAST_INTEGER
    most: int = MOST_INTEGER

    @property
    def words(self) -> str:
        return f"an integer from {self.least} to {self.most}"

    def check(self, value: object) -> object:
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        if type(number) is not int or not self.least <= number <= self.most:
            raise PydanticCustomError("number", "must be " + self.words)
        return number

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {"minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Real:
    """For ``Annotated[float, Real(..)]``: a finite number. above: ``least`` itself is too small; most inf: none is too
    large."""

    least: float = 0.0
    most: float = math.inf
    above: bool = False

    @property
    def words(self) -> str:
        bounds = f"above {self.least:.12g}" if self.above else f"from {self.least:.12g}"
        if self.most == math.inf:
            return f"a number {bounds if self.above else f'of at least {self.least:.12g}'}"
        return f"a number {bounds} {'and up to' if self.above else 'to'} {self.most:.12g}"

    def holds(self, number: float) -> bool:
        return math.isfinite(number) and self.least <= number <= self.most and not (self.above and number == self.least)

    def check(self, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self._holds_all(value):
            raise PydanticCustomError("number", "must be " + self.words)
        return value

    def _holds_all(self, value: float) -> bool:
        """Integers, too, that no float can hold."""
        try:
            return self.holds(float(value))
        except OverflowError:
            return False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        most = {} if self.most == math.inf else {"maximum": self.most}
        return handler(schema) | {"exclusiveMinimum" if self.above else "minimum": self.least} | most


TEMPERATURE = Real()
TOP_K = Whole(-1, (1 << 31) - 1)
TOP_P = Real(0, 1, above=True)
MIN_P = Real(0, 1)
REPETITION_PENALTY = Real(0, above=True)
PENALTY = Real(-2, 2)
"""Of presence and of frequency: OpenAI's bounds."""


@dataclass(frozen=True, slots=True)
class Most:
    """For ``Annotated[list[..], Field(fail_fast=True), Most(..)]``: a list's length, checked before its elements."""

    count: int

    def check(self, value: object) -> object:
        if isinstance(value, list) and len(value) > self.count:
            told = {"most": self.count, "count": len(value)}
            raise PydanticCustomError(SAID, "must have at most {most} elements, not {count}", told)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {"maxItems": self.count}


def shown(value: object) -> str:
    """As JSON has it; of a long number its ends, and of a long string nothing, as it may be somebody's text."""
    if isinstance(value, str) and len(value) > MOST_SHOWN:
        return f"a string of {len(value)} characters"
    words = json.dumps(value, ensure_ascii=False)
    if len(words) <= MOST_SHOWN:
        return words
    if isinstance(value, str):
        return f"a string of {len(value)} characters"
    return f"{words[:20]}...{words[-8:]}, which has {len(words)} characters"
