"""One line per event: ``2026-11-22T10:00:00.123Z INFO decode-0 message key=value``.

Fields go in with ``log.info("ready", extra=fields(port=8000))``; values with spaces
are quoted. Tokens and prompts are never logged.
"""

import json
import logging
import sys
import time
from typing import TextIO


def fields(**values: object) -> dict[str, object]:
    """The ``extra=`` of a log call: each becomes ``key=value`` at the end of the line; None is left out."""
    return {"fields": values}


def configure_logging(process: str, *, level: str = "info", stream: TextIO | None = None) -> None:
    """Send every logger of this interpreter to ``stream`` (stderr) in the one format."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("asyncio", "httpcore", "httpx", "huggingface_hub", "urllib3", "uvicorn.access", "filelock"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class LineFormatter(logging.Formatter):
    """Time in UTC, level, process, message, fields; a traceback follows on lines of its own."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().replace("\n", "\\n")
        line = f"{_stamp(record.created)} {record.levelname} {self.process} {message}"
        values: dict[str, object] = getattr(record, "fields", {})
        for key, value in values.items():
            if value is not None:
                line += f" {key}={_shown(value)}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def dropped_line(lines: int, why: str) -> str:
    """The line that stands where others are missing, in the same format; of the last process that was named."""
    formatters = (handler.formatter for handler in logging.getLogger().handlers)
    process = next((each.process for each in formatters if isinstance(each, LineFormatter)), "moonpool")
    return f"{_stamp(time.time())} WARNING {process} lines of output were dropped lines={lines} reason={_shown(why)}\n"


def _stamp(seconds: float) -> str:
    """To the millisecond, in UTC."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or any(c.isspace() or c in '"=' for c in text) else text
