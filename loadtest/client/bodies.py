"""The bodies of requests: what is asked of a server, so that prompt and answer are as long as the workload has them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from loadtest import prompts
from loadtest.request import Request
from loadtest.settings import Endpoint


class Bodies(Protocol):
    """One endpoint's. said: by content, tokens that were really answered."""

    def body(self, request: Request, said: Mapping[int, Sequence[int]]) -> bytes: ...


class Completions:
    """Prompts are token ids: nothing is added to them, so the server counts exactly what the workload has."""

    def __init__(self, endpoint: Endpoint, model: str, vocabulary: Sequence[int], *, seed: int, ids: bool) -> None:
        self._common = common(endpoint, model) | ({"return_token_ids": True} if ids else {})
        self._vocabulary, self._seed = vocabulary, seed

    def body(self, request: Request, said: Mapping[int, Sequence[int]]) -> bytes:
        ids = prompts.token_ids(request.prompt, self._vocabulary, seed=self._seed, said=said)
        return _dumps({**self._common, "prompt": ids, "max_tokens": request.output_tokens})


class Chats:
    """One message of a user's, as many tokens as asked together with the template, which adds ``overhead``."""

    def __init__(self, endpoint: Endpoint, model: str, pieces: Sequence[str], overhead: int, *, seed: int) -> None:
        self._common = common(endpoint, model)
        self._pieces, self._overhead, self._seed = pieces, overhead, seed

    def body(self, request: Request, said: Mapping[int, Sequence[int]]) -> bytes:
        content = prompts.text(request.prompt, self._pieces, seed=self._seed, without=self._overhead)
        messages = [{"role": "user", "content": content}]
        return _dumps({**self._common, "messages": messages, "max_completion_tokens": request.output_tokens})


def common(endpoint: Endpoint, model: str) -> dict[str, Any]:  # Any: JSON
    """What every body has."""
    options = {"include_usage": True} | ({"continuous_usage_stats": True} if endpoint.token_counts else {})
    found: dict[str, Any] = {"model": model, "stream": True, "stream_options": options}
    if endpoint.temperature is not None:
        found["temperature"] = endpoint.temperature
    if endpoint.ignore_eos:
        found["ignore_eos"] = True
    return {**found, **json.loads(endpoint.extra_body)}


def _dumps(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
