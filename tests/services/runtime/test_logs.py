"""The one line format."""

import io
import logging
import re
from collections.abc import Iterator

import pytest

from services.runtime.logs import configure_logging, fields


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    stream = io.StringIO()
    configure_logging("decode-0", level="info", stream=stream)
    yield stream
    root.handlers[:] = before[0]
    root.setLevel(before[1])


def test_a_line_has_time_level_process_message_and_fields(written: io.StringIO) -> None:
    logging.getLogger("any").info(
        "request %s", "done", extra=fields(ttft_s=0.123456, why="two words", worker=None, n=3)
    )
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO decode-0 request done ttft_s=0\.1235 why="two words" n=3\n',
        written.getvalue(),
    )


def test_a_message_cannot_forge_another_line(written: io.StringIO) -> None:
    logging.getLogger("any").warning("bad\n2026-01-01 INFO gateway-0 all well", extra=fields(who="a\nb"))
    assert written.getvalue().count("\n") == 1


def test_what_is_below_the_level_is_left_out(written: io.StringIO) -> None:
    logging.getLogger("any").debug("request")
    assert not written.getvalue()


def test_a_traceback_follows_its_line(written: io.StringIO) -> None:
    try:
        raise ValueError("oh")
    except ValueError:
        logging.getLogger("any").exception("failed")
    first, *rest = written.getvalue().splitlines()
    assert first.endswith("ERROR decode-0 failed")
    assert rest[-1] == "ValueError: oh"
