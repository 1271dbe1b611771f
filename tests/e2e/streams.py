"""One stream of a running cluster, read to its end in a thread, whatever that end is."""

import json
import threading
from dataclasses import dataclass

import httpx

from tests.e2e.cluster import prompt_words

TOKENS = 120
"""2.4 s of decoding and more: long enough to die in the middle of."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How one stream ended: all its text with a normal finish, an error event, or a broken connection."""

    text: str
    finish_reason: str | None
    error: str | None

    @property
    def complete(self) -> bool:
        return self.finish_reason is not None and self.error is None


def stream(url: str, model: str, number: int, started: threading.Semaphore) -> Ending:
    ask = {
        "model": model,
        "prompt": f"stream {number}: {prompt_words(40)}",
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
    }
    text, finish_reason, error = "", None, None
    released = False
    try:
        with httpx.stream("POST", f"{url}/v1/completions", json=ask, timeout=60.0) as answer:
            if answer.status_code != 200:
                return Ending("", None, answer.read().decode())
            for line in answer.iter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    error = str(event["error"]["message"])
                    continue
                for choice in event["choices"]:
                    text += choice["text"]
                    finish_reason = choice["finish_reason"] or finish_reason
                if text and not released:
                    released = True
                    started.release()
    except httpx.HTTPError as broken:
        error = repr(broken)
    finally:
        if not released:
            started.release()
    return Ending(text, finish_reason, error)
