"""Flags that the commands of this part share: how mistakes are told, sizes and numbers as people write them."""

import argparse
from pathlib import Path
from typing import NoReturn

from loadtest import profiles
from loadtest.trace_file import TraceFile
from loadtest.traces import Trace, TraceError, Unit

BAD_USAGE = 2
_UNITS = {"": 1, "b": 1}
_UNITS |= {unit: 1024**power for power, unit in enumerate(("kib", "mib", "gib", "tib"), start=1)}
_UNITS |= {unit: 1000**power for power, unit in enumerate(("kb", "mb", "gb", "tb"), start=1)}


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one sentence rather than a page of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_USAGE, f"{self.prog}: {message}\ntry '{self.prog} --help'\n")


TRACE_HELP = "requests, as Mooncake, Azure, BurstGPT and others publish them (docs/loadtest.md)"


def add_trace(parser: Parser) -> None:
    """``--trace`` and ``--requests``: what is replayed."""
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help=f"{TRACE_HELP} [a copy of the published trace, or a built-in one]",
    )
    add_trace_format(parser)
    parser.add_argument("--requests", type=number, metavar="N", help="only the first N of them")


def add_trace_format(to: Parser | argparse._ArgumentGroup) -> None:
    """``--trace-time-unit`` and ``--trace-block-tokens``: what a trace's file does not say of itself."""
    to.add_argument("--trace-time-unit", type=Unit, choices=tuple(Unit), help="of the trace's times [guessed]")
    to.add_argument(
        "--trace-block-tokens",
        type=positive,
        metavar="N",
        help="tokens that a hash id of the trace names [guessed]",
    )


def trace_file(asked: argparse.Namespace, *, tokenizer: Path | None = None) -> TraceFile:
    """What is asked for by these flags."""
    return TraceFile(asked.trace, asked.trace_time_unit, asked.trace_block_tokens, tokenizer)


BLOCK_TOKENS_HELP = "tokens in a block of the cluster [as the trace's, but at least 64]"

LEAST_BLOCK_TOKENS = 64
"""A deployment's own default: what smaller blocks than these share, no deployment finds whole."""


def cluster_block_tokens(trace: Trace) -> int:
    """Tokens in a block of a cluster that is to replay this trace."""
    return max(LEAST_BLOCK_TOKENS, trace.block_tokens)


def timed(trace: Trace, source: Path | None) -> Trace:
    """The same trace, which has times. Raises TraceError where it has none."""
    if not trace.rows:
        raise TraceError(
            f"{source} has conversations and no times, which only `moonpool loadtest run --workload trace "
            "--request-rate R` can give them"
        )
    return trace


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


def positive(text: str) -> int:
    """Of things: 1 or more."""
    if (found := number(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return found
