"""Server-sent events: how bytes of a stream are framed."""

import json
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

CONTENT_TYPE = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"

_LINE_BREAKS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def event(document: dict[str, Any]) -> bytes:
    """One event with a JSON document."""
    return b"data: " + dumps(document).encode() + b"\n\n"


def dumps(document: Any) -> str:
    """Compact JSON that holds no line break of any kind, so that no client's line reader breaks it."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).translate(_LINE_BREAKS)


def quote(text: str) -> str:
    """``dumps`` of a string, fast."""
    if text.isascii():
        return str(encode_basestring_ascii(text))
    return str(encode_basestring(text)).translate(_LINE_BREAKS)
