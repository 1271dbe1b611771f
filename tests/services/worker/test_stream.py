"""A stream gives every token once and in order, however slowly it is read, and ends as it should or not at all."""

import asyncio

import pytest

from scheduler.progress import FirstToken, Progress
from scheduler.vocabulary import FinishReason, RequestId
from services.worker.stream import StreamBroken, StreamCut, TokenStream

FIRST = FirstToken(8, 0.1, 0.2)


def token(number: int, finish: FinishReason | None = None, first: FirstToken | None = None) -> Progress:
    return Progress(RequestId("r"), number, finish, first)


async def test_a_slow_reader_gets_everything_in_one_portion() -> None:
    stream = TokenStream()
    stream.put(token(1, first=FIRST))
    stream.put(token(2))
    stream.put(token(3, FinishReason.LENGTH))
    portion = await stream.next()
    assert (portion.tokens, portion.first, portion.finish) == ((1, 2, 3), FIRST, FinishReason.LENGTH)


async def test_a_reader_that_waits_gets_each_token_as_it_comes() -> None:
    stream = TokenStream()
    for number in range(3):
        reading = asyncio.create_task(stream.next())
        await asyncio.sleep(0)
        stream.put(token(number, first=FIRST if number == 0 else None))
        portion = await reading
        assert portion.tokens == (number,)
        assert portion.first == (FIRST if number == 0 else None)


async def test_a_confirmation_is_heard_before_and_after_it_was_given() -> None:
    stream = TokenStream()
    waiting = asyncio.create_task(stream.confirmed())
    await asyncio.sleep(0)
    stream.confirm(2)
    stream.confirm(5)  # after a preemption: no news
    assert await waiting == await stream.confirmed() == 2


@pytest.mark.parametrize("error", [StreamBroken("the engine failed"), StreamCut("the worker ends")])
async def test_a_stream_that_fails_never_looks_complete(error: StreamBroken) -> None:
    stream = TokenStream()
    reading = asyncio.create_task(stream.next())
    confirming = asyncio.create_task(stream.confirmed())
    await asyncio.sleep(0)
    stream.fail(error)
    for wait in (reading, confirming):
        with pytest.raises(type(error), match=str(error)):
            await wait
