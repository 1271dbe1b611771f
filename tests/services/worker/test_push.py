"""A push is asked for once, told layer by layer, and ended once; nobody waits for it for long."""

import asyncio
import threading

import pytest

from kvstore.names import BlockName
from kvstore.vocabulary import SlotRef
from scheduler.vocabulary import StoreId, StoreTarget
from services.wire.pb.store_pb2 import GRANT_WRITE, Pushed
from services.wire.store_codec import refs_from_wire
from services.worker.push import Push, WrittenLayers
from tests.services.worker.said import Said

NAMES = [BlockName(letter.encode() * 16) for letter in "abc"]
TARGET = StoreTarget(StoreId("store-1"), "127.0.0.1:7500")
SLOTS = [SlotRef(1, 1), SlotRef(5, 2)]


def pushing(said: Said) -> Push:
    return Push(said.session, TARGET, NAMES, last_is_short=True)


async def test_a_push_names_the_other_store_and_the_blocks() -> None:
    said = Said()
    pushing(said)
    (message,) = said.messages()
    assert (message.push.target.store, message.push.target.address) == ("store-1", "127.0.0.1:7500")
    assert message.push.names == b"".join(NAMES)
    assert message.push.last_is_short


async def test_a_first_token_waits_for_the_other_stores_word() -> None:
    said = Said()
    push = pushing(said)
    waiting = asyncio.create_task(push.answered())
    await asyncio.sleep(0)
    assert not waiting.done()
    said.answer(1, pushed=Pushed(grants=[GRANT_WRITE] * 3))
    assert await waiting
    assert await push.answered(), "it stays said"


async def test_a_word_that_does_not_come_in_time_is_not_waited_for_and_ends_no_session() -> None:
    said = Said()
    assert not await pushing(said).answered(within_s=0.001)
    assert said.session.live


async def test_nobody_waits_for_a_session_that_has_ended() -> None:
    said = Said()
    push = pushing(said)
    waiting = asyncio.create_task(push.answered(within_s=60.0))
    await asyncio.sleep(0)
    said.session.end()
    assert not await waiting
    assert not await pushing(said).answered(within_s=60.0)


@pytest.mark.parametrize("answered", [True, False])
async def test_a_push_ends_once_and_what_comes_afterwards_is_ignored(answered: bool) -> None:
    said = Said()
    push = pushing(said)
    if answered:
        said.answer(1, pushed=Pushed(grants=[GRANT_WRITE] * 3))
    push.close()
    push.close()
    asked, ended = said.messages()
    assert ended.push_end.push == asked.call == 1
    said.answer(1, pushed=Pushed(grants=[GRANT_WRITE] * 3))


async def test_layers_that_come_while_the_loop_is_busy_are_told_in_one_message() -> None:
    said = Said()
    layers = WrittenLayers({said.session: SLOTS}, gap_s=0.0)
    for layer in range(3):
        layers.lowered(layer)
    await asyncio.sleep(0)
    layers.lowered(3)
    await asyncio.sleep(0)
    first, second = said.messages()
    assert (first.wrote.first_layer, first.wrote.layers) == (0, 3)
    assert (second.wrote.first_layer, second.wrote.layers) == (3, 1)
    assert refs_from_wire(first.wrote.slots) == SLOTS


async def test_layers_that_follow_each_other_quickly_wake_the_loop_seldom() -> None:
    said, now = Said(), 0.0
    layers = WrittenLayers({said.session: SLOTS}, gap_s=1.0, clock=lambda: now)
    told = []
    for layer in range(8):
        layers.lowered(layer)
        await asyncio.sleep(0)
        told.append([(each.wrote.first_layer, each.wrote.layers) for each in said.messages()])
        now += 0.4
    assert told == [[(0, 1)], [], [], [(1, 3)], [], [], [(4, 3)], []]


@pytest.mark.parametrize("layers", [1, 2, 30, 500])
async def test_every_layer_is_told_once_and_in_order_however_the_threads_race(layers: int) -> None:
    said = Said()
    written = WrittenLayers({said.session: SLOTS}, gap_s=0.0)

    def model() -> None:
        for layer in range(layers):
            written.lowered(layer)

    thread = threading.Thread(target=model)
    thread.start()
    told: list[int] = []
    while len(told) < layers:
        await asyncio.sleep(0)
        for message in said.messages():
            told += range(message.wrote.first_layer, message.wrote.first_layer + message.wrote.layers)
    thread.join()
    assert told == list(range(layers))


async def test_layers_of_a_session_that_has_ended_are_told_to_nobody() -> None:
    said = Said()
    layers = WrittenLayers({said.session: SLOTS})
    said.session.end()
    layers.lowered(0)
    await asyncio.sleep(0)
    assert said.messages() == []
