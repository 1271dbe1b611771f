"""A server of known timing, to measure the harness by: ``python -m loadtest.mock_server --port 8124``.

It answers as an OpenAI-compatible server does and computes nothing. A *script* says what each request gets and when;
the default one gives each its tokens, the first after ``--ttft`` seconds, the others after ``--gap``. Tokens are words:
a text has as many as words and leading spaces make.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import uvloop
from aiohttp import web

from loadtest.arguments import Parser, number
from loadtest.client.words import WORDS

MODEL = "mock"
DONE = b"data: [DONE]\n\n"
TEMPLATE_TOKENS = 7
"""What its chat template adds."""

Document = dict[str, Any]  # JSON


@dataclass(frozen=True, slots=True)
class Pause:
    """Until so many seconds after the request came."""

    until_s: float


@dataclass(frozen=True, slots=True)
class Send:
    """These bytes of a stream; headers go out before the first of them."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer with a status, instead of a stream."""

    status: int
    document: Document
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Break:
    """Cut the connection."""


Step = Pause | Send | Answer | Break
Script = Callable[[int, Document], Sequence[Step]]
"""From a request's number, in the order of their coming, and its body."""


def event(document: Document) -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


def chunk(body: Document, text: str, *, finish: str | None = None) -> bytes:
    """With text; of a chat or a completion, whatever was asked for."""
    said: Document = {"delta": {"content": text}} if "messages" in body else {"text": text}
    return event({"choices": [{"index": 0, "finish_reason": finish, **said}]})


def usage(prompt: int, completion: int, cached: int | None = None) -> bytes:
    details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion, **details}})


def steady(ttft_s: float, gap_s: float) -> Script:
    """All that was asked for, a token a chunk."""

    def script(_: int, body: Document) -> list[Step]:
        tokens = asked_tokens(body)
        steps: list[Step] = []
        for place in range(tokens):
            finish = "length" if place == tokens - 1 else None
            if place == 0 or gap_s > 0.0:
                steps.append(Pause(ttft_s + place * gap_s))
            steps.append(Send(chunk(body, " w", finish=finish)))
        return [*steps, Send(usage(prompt_tokens(body), tokens) + DONE)]

    return script


def asked_tokens(body: Document) -> int:
    return int(body.get("max_completion_tokens") or body.get("max_tokens") or 16)


def prompt_tokens(body: Document) -> int:
    if "messages" in body:
        return TEMPLATE_TOKENS + sum(len(str(each["content"]).split()) for each in body["messages"])
    return len(body["prompt"])


class MockServer:
    """One, of a script. bodies: all that were asked, in the order of their coming."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.bodies: list[Document] = []
        self.headers: list[dict[str, str]] = []
        self.left = 0
        """Streams whose client went away."""

        self.not_ready = ""
        """Why, where it isn't."""

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_post("/v1/completions", self._answer)
        return app

    async def _models(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(
            {"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": 1 << 20}]}
        )

    async def _health(self, _: web.Request) -> web.StreamResponse:
        return web.Response(status=503 if self.not_ready else 200, text=self.not_ready)

    async def _tokenize(self, request: web.Request) -> web.StreamResponse:
        words = str((await request.json())["prompt"]).split()
        known = {word: place for place, word in enumerate(WORDS)}
        tokens = [known.get(word, len(WORDS)) for word in words]
        return web.json_response({"count": len(tokens), "tokens": tokens, "max_model_len": 1 << 20})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        came_s = asyncio.get_running_loop().time()
        body = json.loads(await request.read())
        if not body.get("stream"):
            return web.json_response({"usage": {"prompt_tokens": prompt_tokens(body), "completion_tokens": 1}})
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        steps = self._script(len(self.bodies) - 1, body)
        try:
            return await self._play(request, steps, came_s)
        except (ConnectionError, asyncio.CancelledError):
            self.left += 1
            raise

    async def _play(self, request: web.Request, steps: Sequence[Step], came_s: float) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        loop = asyncio.get_running_loop()
        for step in steps:
            match step:
                case Pause(until_s):
                    await asyncio.sleep(max(0.0, came_s + until_s - loop.time()))
                case Send(data):
                    if not response.prepared:
                        await response.prepare(request)
                    await response.write(data)
                case Answer(status, document, headers):
                    return web.json_response(document, status=status, headers=dict(headers))
                case Break():
                    if request.transport is not None:
                        request.transport.abort()
                    return response
        await response.write_eof()
        return response


def main(argv: Sequence[str]) -> int:
    """Serve until Ctrl-C."""
    parser = Parser(prog="python -m loadtest.mock_server", description="A server that computes nothing, on time.")
    parser.add_argument("--port", type=number, default=8124, metavar="N", help="on the loopback [8124]")
    parser.add_argument("--ttft", type=float, default=0.05, metavar="S", help="to the first token [0.05]")
    parser.add_argument("--gap", type=float, default=0.01, metavar="S", help="between tokens [0.01]")
    asked = parser.parse_args(list(argv))
    app = MockServer(steady(asked.ttft, asked.gap)).app()
    web.run_app(
        app, host="127.0.0.1", port=asked.port, access_log=None, handler_cancellation=True, loop=uvloop.new_event_loop()
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
