"""``moonpool status``: ask a gateway how its deployment is, and show it. Exit status 1 where nobody answers."""

import json
import os
import sys
import time
from argparse import BooleanOptionalAction
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from services.runtime.flags import Parser
from services.runtime.http import get, unused_proxy
from services.status.tables import Document, tables

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 10.0
REFRESH_S = 1.0


class StatusError(Exception):
    """There is no status to show; the message is a sentence for the operator."""


def main(argv: Sequence[str]) -> int:
    asked = _parser().parse_args(list(argv))
    if (note := unused_proxy(asked.url)) is not None:
        print(f"moonpool status: {note}", file=sys.stderr)
    try:
        if asked.watch:
            _watch(asked.url, as_json=asked.json, again=lambda: time.sleep(REFRESH_S))
        elif asked.json:
            print(json.dumps(ask(asked.url), indent=2))
        else:
            Console().print(tables(ask(asked.url)))
    except StatusError as error:
        print(f"moonpool status: {error}", file=sys.stderr)
        return 1
    return 0


def ask(url: str) -> Document:
    """The gateway's own account. Raises StatusError."""
    if not url.startswith(("http://", "https://")):
        raise StatusError(f"{url} is no gateway's address; like {DEFAULT_URL}")
    place = f"{url.rstrip('/')}/status"
    try:
        status, body = get(place, timeout_s=TIMEOUT_S)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise StatusError(f"no gateway answers at {url}: {getattr(reason, 'strerror', None) or reason}") from error
    try:
        document = json.loads(body)
    except ValueError as error:
        raise StatusError(f"{place} did not answer with a status, but with HTTP {status}") from error
    if status != 200 or not isinstance(document, dict):
        raise StatusError(f"{place} answers with HTTP {status}: {_message(document)}")
    return document


def _message(document: Any) -> str:  # Any: whatever JSON a stranger may answer with
    """The sentence inside an error of OpenAI's shape, or what there is instead."""
    error = document.get("error") if isinstance(document, dict) else None
    return str(error.get("message")) if isinstance(error, dict) else json.dumps(document)[:200]


def _watch(url: str, *, as_json: bool, again: Callable[[], None]) -> None:
    """Until Ctrl-C, or what reads it leaves: a table that renews itself, or one JSON document per line.

    Whoever is there at first is waited for when it goes away, as a gateway that restarts comes back.
    """
    document: Document | str = ask(url)
    if as_json:
        while True:
            print(json.dumps({"error": document} if isinstance(document, str) else document), flush=True)
            again()
            document = _ask_again(url)
    if not sys.stdout.isatty():  # a file or a pipe: one after the other, each when it is there
        while True:
            Console().print(document if isinstance(document, str) else tables(document))
            again()
            document = _ask_again(url)
    with Live(auto_refresh=False, screen=True) as live:
        while True:
            live.update(Text(document) if isinstance(document, str) else tables(document), refresh=True)
            again()
            document = _ask_again(url)


def _ask_again(url: str) -> Document | str:
    """Or the sentence that says why there is none."""
    try:
        return ask(url)
    except StatusError as error:
        return str(error)


def _parser() -> Parser:
    parser = Parser(prog="moonpool status", description="Show what a running deployment is doing.", allow_abbrev=False)
    url = os.environ.get("MOONPOOL_URL") or DEFAULT_URL
    parser.add_argument("--url", default=url, help=f"a gateway's base URL; or MOONPOOL_URL [{DEFAULT_URL}]")
    parser.add_argument("--watch", action=BooleanOptionalAction, default=False, help="renew every second until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="the gateway's document as it is")
    return parser
