"""Byte sizes as people write them: ``512MiB``, ``4GiB``, ``1073741824``."""

import re

_UNITS = {"": 1, "b": 1}
_UNITS |= {unit: 1024**power for power, unit in enumerate(("kib", "mib", "gib", "tib"), start=1)}
_UNITS |= {unit: 1000**power for power, unit in enumerate(("kb", "mb", "gb", "tb"), start=1)}
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def parse_size(text: str) -> int:
    """The bytes that ``text`` names; ValueError if it names none.

    KiB, MiB, GiB and TiB are powers of 1024; KB to TB are powers of 1000.
    """
    match = _FORM.fullmatch(text)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError("a size is a number of bytes or like 512MiB, 4GiB")
    return (
        int(float(match[1]) * _UNITS[match[2].lower()]) if "." in match[1] else int(match[1]) * _UNITS[match[2].lower()]
    )


def format_size(size_bytes: int) -> str:
    """The shortest exact spelling in binary units: 4294967296 is ``4GiB``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % _UNITS[unit.lower()] == 0:
            return f"{size_bytes // _UNITS[unit.lower()]}{unit}"
    return str(size_bytes)
