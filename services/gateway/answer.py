"""Deliver one answer: run its stories, and tell what they give, as a stream or whole.

A stream's headers wait for its first token. So whatever goes wrong before it has a
status of its own, headers can name the workers, and the chunk with the role comes with
the first text rather than as a promise; after it, errors are events. Choices of one
prompt: the first goes ahead, and the others start at its first token, when the
prompt's blocks are there to be found.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from scheduler.vocabulary import FinishReason
from services.gateway.choice import Choice
from services.gateway.connection import ClientGone, while_connected
from services.gateway.errors import ApiError, our_bug, unavailable
from services.gateway.front import STOPPING, Front
from services.gateway.journal import CLIENT_LEFT, Journal
from services.gateway.order import Deployment, Order
from services.gateway.scribe import Scribe
from services.gateway.shape import Shape
from services.gateway.story import Story
from services.gateway.text_threads import Pieces
from services.gateway.voices import StreamVoice, Voice, WholeVoice, account_headers

MakeOrder = Callable[[Deployment], Pieces[Order]]

log = logging.getLogger(__name__)


class Answer(Response):
    """The answer to one request. make_order runs in a thread; both it and the telling raise ApiError.

    size: bytes of the body. client: whose request it is, among those that wait for a thread.
    """

    def __init__(
        self, front: Front, request: Request, make_order: MakeOrder, shape: type[Shape], *, size: int, client: str
    ) -> None:
        super().__init__()
        self._front = front
        self._make_order = make_order
        self._shape = shape
        self._size = size
        self._client = client
        self._request_id: str = request.state.request_id
        self._clock = asyncio.get_running_loop().time
        self._voice: Voice | None = None
        self._failed: ApiError | None = None  # what a stream that had started ended with
        self._journal = Journal(
            request.url.path, self._request_id, front.metrics, front.ledger, arrived=request.state.arrived
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, error = 200, None
        with self._front.present():
            try:
                await while_connected(receive, self._tell(send), name=self._request_id)
            except ClientGone:
                if self._voice is None or not self._voice.complete:
                    status = CLIENT_LEFT
            except ApiError as raised:
                status, error = raised.status, raised
                raise
            except Exception:
                status, error = 500, our_bug(self._request_id)
                raise
            finally:
                self._journal.close(self._clock(), status=status, error=error or self._failed)

    async def _tell(self, send: Send) -> None:
        front, journal = self._front, self._journal
        with front.stoppable():
            deployment = await front.deployment()
            order = await front.in_thread(self._make_order(deployment), size=self._size, client=self._client)
            journal.tokenized(self._clock())
            with front.seats(len(order.choices)):
                choices = [self._choice(index, order) for index in range(len(order.choices))]
                journal.order, journal.choices, journal.per_prompt = order.id, choices, order.n
                self._voice = voice = self._voice_for(order, deployment, send)
                try:
                    await self._tell_all(choices, order.n, voice)
                except Exception as raised:
                    if not voice.started:
                        raise
                    self._failed = self._as_error(raised)
                    await voice.fail(self._failed)

    def _choice(self, index: int, order: Order) -> Choice:
        front, generation = self._front, order.choices[index]
        telling = order.telling
        skip = telling.wording.skip_special_tokens
        detokenizer = front.text.detokenizer(generation.prompt, skip_special_tokens=skip, echoed=telling.echo)
        scribe = Scribe(telling.wording, generation.limits, detokenizer)
        story = Story(generation, front.cluster, front.settings.patience, arrived=self._journal.arrived)
        return Choice(index, order, story, scribe, front.metrics, front.ledger)

    def _voice_for(self, order: Order, deployment: Deployment, send: Send) -> Voice:
        make_shape = partial(
            self._shape,
            order,
            model=self._front.settings.model,
            fingerprint=f"moonpool-{deployment.identity.fingerprint.hex()[:12]}",
            created=int(time.time()),
        )
        telling = order.telling
        if not telling.stream:
            return WholeVoice(send, make_shape, self._journal)
        continuous = telling.include_usage and telling.continuous_usage
        return StreamVoice(send, make_shape(), self._journal, usage=telling.include_usage, continuous_usage=continuous)

    async def _tell_all(self, choices: Sequence[Choice], n: int, voice: Voice) -> None:
        """Raises ApiError where one of them failed; the others end with it."""
        try:
            if len(choices) == 1:
                await self._tell_one(choices[0], None, voice)
                return
            async with asyncio.TaskGroup() as group:
                for number, choice in enumerate(choices):
                    leader = choices[number - number % n]
                    group.create_task(self._tell_one(choice, None if leader is choice else leader, voice))
        except BaseExceptionGroup as several:
            errors = several.exceptions
            raise next((error for error in errors if isinstance(error, ApiError)), errors[0]) from several
        except asyncio.CancelledError:
            if not self._front.ended:
                raise  # the client left
            raise unavailable(STOPPING, code="shutting_down") from None

    async def _tell_one(self, choice: Choice, leader: Choice | None, voice: Voice) -> None:
        if leader is not None:
            await leader.begun.wait()

        async def give(tokens: Sequence[int]) -> bool:
            text = choice.hear(list(tokens), now=self._clock(), arrived=self._journal.arrived)
            if choice.scribe.finish_reason is not None:
                choice.rest += text
                return choice.has_enough
            if text or not choice.opened:
                await voice.say(choice, text)
            return False

        try:
            reason = await choice.story.tell(give)
        except ApiError as error:
            error.about = account_headers(choice.story.account)
            raise
        rest = choice.rest + choice.scribe.finish(reason or FinishReason.STOP)
        assert choice.scribe.finish_reason is not None
        choice.told.finish_reason = choice.scribe.finish_reason.value
        choice.told.stop_reason = choice.scribe.stop_reason
        await voice.end(choice, rest)

    def _as_error(self, raised: Exception) -> ApiError:
        if isinstance(raised, ApiError):
            return raised
        log.error("request %s failed", self._request_id, exc_info=raised)
        return our_bug(self._request_id)
