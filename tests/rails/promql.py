"""As much of PromQL as tells which metrics and labels an expression names. Pure."""

import re
from dataclasses import dataclass

_TOKEN = re.compile(r'"[^"]*"|\'[^\']*\'|\{|\}|\(|\)|\[[^\]]*\]|[A-Za-z_:][\w:]*|=~|!~|!=|=|,|\S')
_NAME = re.compile(r"[A-Za-z_:][\w:]*")
_CLAUSES = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"or", "and", "unless", "bool", "offset", "inf", "nan"}


@dataclass(frozen=True, slots=True)
class Named:
    """What an expression names: metrics, the labels that each is selected by, and those it is grouped by."""

    metrics: frozenset[str]
    selected: frozenset[tuple[str, str]]
    grouped: frozenset[str]


def named(expr: str) -> Named:
    tokens = [token for token in _TOKEN.findall(expr) if not token.startswith(("[", '"', "'"))]
    metrics: list[str] = []
    selected: set[tuple[str, str]] = set()
    grouped: set[str] = set()
    place = 0
    while place < len(tokens):
        token, following = tokens[place], tokens[place + 1] if place + 1 < len(tokens) else ""
        if token in _CLAUSES:
            if following == "(":
                end = tokens.index(")", place)
                grouped |= {each for each in tokens[place + 2 : end] if each != ","}
                place = end
        elif token == "{":
            end = tokens.index("}", place)
            selected |= {(metrics[-1], each) for each in tokens[place + 1 : end] if _NAME.fullmatch(each)}
            place = end
        elif _NAME.fullmatch(token) and following not in {"(", *_CLAUSES} and token.lower() not in _WORDS:
            metrics.append(token)
        place += 1
    return Named(frozenset(metrics), frozenset(selected), frozenset(grouped))
