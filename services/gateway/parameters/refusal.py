"""Which values of a field ask for something that is not done, and the sentence that says so."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

Asks = Callable[[object], bool]
"""Whether a value asks for something. Null never does."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """asks: which values are refused. why: the end of a sentence that starts with the field's name."""

    asks: Asks
    why: str = "is not supported"


def truthy(value: object) -> bool:
    return bool(value)


def given(value: object) -> bool:
    return value is not None and value is not False


def other_than(*neutral: object) -> Asks:
    """True is no 1 and false is no 0."""

    def asks(value: object) -> bool:
        return value is not None and not any(_same(value, each) for each in neutral)

    return asks


def _same(value: object, neutral: object) -> bool:
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def over(most: float) -> Asks:
    """Numbers above ``most``, and what is no number."""

    def asks(value: object) -> bool:
        return value is not None and not (isinstance(value, int | float) and value <= most)

    return asks


def not_text(value: object) -> bool:
    """A format of answers other than text."""
    return value is not None and not (isinstance(value, Mapping) and value.get("type") == "text")


def more_than_text(value: object) -> bool:
    return bool(value) and value != ["text"]


def constrains(value: object) -> bool:
    """A grammar or schema; the empty object is a schema, too: of any JSON."""
    return value not in (None, False, "", [])


def biases(value: object) -> bool:
    """Of tokens, as an object of numbers; a bias of 0 changes nothing."""
    return any(bias != 0 for bias in value.values()) if isinstance(value, Mapping) else bool(value)


def chooses_tools(value: object) -> bool:
    return value not in (None, "none", "auto")


def thinks(value: object) -> bool:
    """``reasoning``, ``thinking`` and the like, unless they say that there is to be none."""
    if isinstance(value, Mapping):
        off = value.get("enabled") is False or value.get("type") == "disabled" or value.get("effort") == "none"
        return bool(value) and not off
    return value not in (None, False, "none")


def table(asks: Asks, why: str, names: Collection[str]) -> Mapping[str, Refusal]:
    """The same refusal for several fields."""
    return dict.fromkeys(names, Refusal(asks, why))
