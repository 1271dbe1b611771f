"""Flags that the commands of this part share: how mistakes are told, sizes and numbers as people write them."""

import argparse
from pathlib import Path
from typing import NoReturn

from loadtest import profiles

BAD_USAGE = 2
_UNITS = {"": 1, "b": 1}
_UNITS |= {unit: 1024**power for power, unit in enumerate(("kib", "mib", "gib", "tib"), start=1)}
_UNITS |= {unit: 1000**power for power, unit in enumerate(("kb", "mb", "gb", "tb"), start=1)}


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one sentence rather than a page of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_USAGE, f"{self.prog}: {message}\ntry '{self.prog} --help'\n")


def add_trace(parser: Parser) -> None:
    """``--trace`` and ``--requests``: what is replayed."""
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="requests in Mooncake's format [a copy of the published trace, or a built-in one]",
    )
    parser.add_argument("--requests", type=number, metavar="N", help="only the first N of them")


def add_profile(parser: Parser) -> None:
    """``--profile``: what the hosts are."""
    parser.add_argument(
        "--profile",
        type=profile,
        default="a800x8-llama3-70b",
        metavar="NAME",
        help=f"the hosts: {', '.join(profiles.names())}, or a file of `bench engine --fit` [a800x8-llama3-70b]",
    )


def profile(text: str) -> str:
    """Its name or path, once it is known to be one."""
    try:
        profiles.load(text)
    except profiles.ProfileError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def size(text: str) -> int:
    """Bytes; ``512GiB`` is a power of 1024, ``1TB`` one of 1000, as everywhere in Moonpool."""
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text.strip()[len(number) :].lower()
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: a number of bytes, or like 512GiB, 1TB") from error


def above_0(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def number(text: str) -> int:
    """Of things: 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of things")
    return int(text)


def times(text: str) -> int:
    """Once or more often."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of times")
    return int(text)
