"""Read a request's body as JSON, once, and with its bounds checked before its elements.

The JSON parser is one call into native code that holds Python's global lock until it is done, in whatever thread it
runs: 2 million empty lists, 6 MiB, hold it for 1.6 s, and every stream with it. So what a body holds is counted first,
in small steps between which other threads get their turn, and a body that holds too much is never parsed.
"""

from typing import Any

from pydantic_core import from_json

from services.gateway.errors import ApiError, bad_request

MOST_VALUES = 1 << 18
"""Elements of lists and fields of objects, on top of twice the context: a batch of 32 prompts of 8,192 ids. Measured:
0.08 us each, so 20 ms."""

MOST_CONTAINERS = 1 << 15
"""Lists and objects, and names of fields likewise: four of each in 8,192 messages. Measured: 1.5 us each, so 50 ms."""

MOST_DIGITS = 1024
"""Of one number: the time that an integer takes grows with their square. Measured: 0.2 ms for 4,300, the parser's own
limit, so 0.2 s for a body of 4 MiB; 3.5 us for 1,000."""

DEEPEST = 200
"""The parser's own limit."""

PIECE = 1 << 16
"""Bytes counted at a time: at most 2 ms where every second byte is a quote."""

TOO_LARGE = "request_too_large"
STRUCTURE = b",:[{]}"
DIGITS_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
LONG_NUMBER = b"0" * (MOST_DIGITS + 1)
BESIDES = bytes(byte for byte in range(256) if byte not in STRUCTURE)

Document = dict[str, Any]
"""Any: a client's JSON."""


def document(raw: bytes, *, context: int = 0) -> Document:
    """The body's object; raises ApiError. context: tokens of the longest sequence, which a prompt of ids may have."""
    if not raw.strip():
        raise bad_request("The body is empty; it must be a JSON object.")
    check_counts(raw, MOST_VALUES + 2 * context)
    try:
        value = from_json(raw)
    except ValueError as error:
        raise bad_request(f"The body is not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise bad_request("The body must be a JSON object.")
    return value


def check_counts(raw: bytes, most_values: int = MOST_VALUES) -> None:
    """Raises ApiError once the part that has been counted holds too much."""
    values = containers = names = closed = 0
    start, inside = 0, False  # of a string
    while start < len(raw):
        end = _end_of_piece(raw, start)
        parts = raw[start:end].replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = b"".join(parts[inside::2])
        structure = outside.translate(None, BESIDES)
        inside ^= len(parts) % 2 == 0
        start = end
        values += structure.count(b",")
        names += structure.count(b":")
        containers += structure.count(b"[") + structure.count(b"{")
        closed += structure.count(b"]") + structure.count(b"}")
        if containers - closed > DEEPEST:
            raise bad_request(f"The body is not valid JSON: it is nested deeper than {DEEPEST} lists and objects.")
        if LONG_NUMBER in outside.translate(DIGITS_AS_ZEROS):
            raise bad_request(f"The body has a number of more than {MOST_DIGITS} digits.", code=TOO_LARGE)
        if values > most_values:
            raise _too_many("values", most_values)
        if names > MOST_CONTAINERS:
            raise _too_many("fields", MOST_CONTAINERS)
        if containers > MOST_CONTAINERS:
            raise _too_many("lists and objects", MOST_CONTAINERS)


def _end_of_piece(raw: bytes, start: int) -> int:
    """Where a piece may end: never between a backslash and what it escapes."""
    end = min(start + PIECE, len(raw))
    piece = raw[start:end]
    backslashes = len(piece) - len(piece.rstrip(b"\\"))
    return min(end + backslashes % 2, len(raw))


def _too_many(what: str, most: int) -> ApiError:
    return bad_request(f"The body has more than {most} {what}.", code=TOO_LARGE)
