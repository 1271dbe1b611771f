"""One answer, whatever happens to blocks on their way between two hosts: what is lost or changed is computed."""

import asyncio
import random
from pathlib import Path

import pytest

from kvstore import tcp_calls
from kvstore.arriving import Arriving
from kvstore.framing import HEADER_BYTES
from kvstore.transfer import Reason
from scheduler.vocabulary import Lifted
from services.store import peers_loop
from tests.services.meddler import Way
from tests.services.rig import BLOCK_TOKENS
from tests.services.worker.hosts import SLOT_BYTES, Hosts, block_bytes, two_hosts
from tests.services.worker.oracle import Asked, alone, asked

CASES = 12


@pytest.fixture
def block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a real model, whose blocks are large: each is verified by itself, so some of a prefix may be lost."""
    monkeypatch.setattr(peers_loop, "DONE_BYTES", 1)


def cases(seed: int) -> list[tuple[int, random.Random]]:
    """Numbers, and chance for each."""
    return [(number, random.Random(f"{seed} {number}")) for number in range(CASES)]


async def test_pushed_to_the_other_host(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as hosts:
        blocks = 0
        for number, chance in cases(1):
            each = asked(chance)
            story = await hosts.pushed(each)
            assert story.tokens == alone(each), number
            assert story.missing_blocks == 0, number
            blocks += -(-len(each.prompt) // BLOCK_TOKENS)
        assert hosts.far.moved("taken") == blocks
        assert hosts.far.moved("fetched") == 0


async def test_handed_over_without_a_push_and_fetched(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as hosts:
        for number, chance in cases(2):
            each = asked(chance)
            story = await hosts.fetched(each)
            assert story.tokens == alone(each), number
            assert story.missing_blocks == 0, number
        assert hosts.far.moved("fetched") > 0
        assert hosts.far.moved("taken") == 0


async def test_a_prefix_of_the_other_host_is_fetched_and_counts_as_cached(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as hosts:
        for number, chance in cases(3):
            each = asked(chance)
            await hosts.cached_near(each)
            story = await hosts.looked_up(each)
            assert story.tokens == alone(each), number
            assert story.cached_tokens == (len(each.prompt) - 1) // BLOCK_TOKENS * BLOCK_TOKENS, number
            assert story.lifted == Lifted(p2p=story.cached_tokens), number
        assert hosts.far.moved("fetched") > 0


async def test_the_next_turn_of_a_conversation_finds_what_the_other_host_has_decoded(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as hosts:
        for number, chance in cases(8):
            turn = asked(chance)
            text: tuple[int, ...] = ()
            for _ in range(3):
                known = max(0, len(text) - 1)  # the last token's KV was never computed
                text += turn.prompt
                story = await hosts.pushed(Asked(text, 20, turn.sampling), far_tokens=known)
                assert story.tokens == alone(Asked(text, 20, turn.sampling)), number
                assert story.cached_tokens == known // BLOCK_TOKENS * BLOCK_TOKENS, number
                text += story.tokens
                await hosts.held_far(text[:-1])
        assert hosts.near.moved("fetched") > 0
        # Each turn's new text is held by no store, and so was asked of none.
        assert hosts.near.count("blocks_not_there") == hosts.far.count("blocks_not_there") == 0
        for reason in set(Reason) - {Reason.MISSING}:
            assert hosts.near.count("failures", reason=reason) == hosts.far.count("failures", reason=reason) == 0


async def test_what_the_other_host_has_evicted_since_it_was_reported_is_computed_and_is_no_failure(
    tmp_path: Path,
) -> None:
    async with two_hosts(tmp_path) as hosts:
        each = Asked(tuple(range(100, 100 + 8 * BLOCK_TOKENS)))
        await hosts.held_anew_far(each)
        hosts.far.store.node.catalog.reset()
        story = await hosts.pushed(each, far_tokens=len(each.prompt))
        assert story.tokens == alone(each)
        assert hosts.near.count("blocks_not_there") == 7, "the last token's block is computed in any case"
        for reason in set(Reason) - {Reason.MISSING}:
            assert hosts.near.count("failures", reason=reason) == 0


@pytest.mark.usefixtures("block_by_block")
async def test_half_is_fetched_and_half_is_computed_where_the_other_store_dies_in_the_middle(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as hosts:
        halves = 0
        for number, chance in cases(4):
            each = asked(chance)
            await hosts.cached_near(each)
            hosts.near.line.cut(Way.COMING, block_bytes(chance, each))
            story = await hosts.looked_up(each)
            assert story.tokens == alone(each), number
            whole = (len(each.prompt) - 1) // BLOCK_TOKENS * BLOCK_TOKENS
            halves += 0 < story.cached_tokens < whole
            hosts.near.line.heal()
        assert halves >= 3, "some prefixes came in part"
        assert hosts.far.run.worker.batcher.snapshot().live == ()


async def test_a_push_that_breaks_is_taken_up_again(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as hosts:
        cut = 0
        for number, chance in cases(5):
            each = asked(chance)
            hosts.far.line.cut(Way.GOING, block_bytes(chance, each), forever=False)
            story = await hosts.pushed(each)
            assert story.tokens == alone(each), number
            assert story.missing_blocks == 0, number
            cut += hosts.far.line.done
            hosts.far.line.heal()
        assert cut >= 3


@pytest.mark.usefixtures("block_by_block")
async def test_a_hand_over_whose_stores_lose_each_other_is_computed(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as hosts:
        missing = []
        for number, chance in cases(6):
            each = asked(chance)
            hosts.far.line.cut(Way.GOING, block_bytes(chance, each))
            hosts.near.line.cut(Way.COMING, 0)
            story = await hosts.pushed(each)
            assert story.tokens == alone(each), number
            missing.append(story.missing_blocks)
            for host in (hosts.near, hosts.far):
                host.line.heal()
        assert sum(map(bool, missing)) >= 3


@pytest.mark.usefixtures("block_by_block")
@pytest.mark.parametrize("path", ["pushed", "fetched", "looked up"])
async def test_what_is_changed_in_flight_is_never_served(tmp_path: Path, path: str) -> None:
    async with two_hosts(tmp_path) as hosts:
        flipped = 0
        for number, chance in cases(7):
            each = asked(chance)
            if path == "pushed":
                hosts.far.line.flip(Way.GOING, block_bytes(chance, each))
                story = await hosts.pushed(each)
                flipped += hosts.far.line.done
            else:
                if path == "looked up":
                    await hosts.cached_near(each)
                hosts.near.line.flip(Way.COMING, block_bytes(chance, each))
                story = await (hosts.fetched(each) if path == "fetched" else hosts.looked_up(each))
                flipped += hosts.near.line.done
            assert story.tokens == alone(each), number
            for host in (hosts.near, hosts.far):
                host.line.heal()
        assert flipped >= 5
        assert hosts.far.count("blocks_refused") > 0


class Anything:
    """A checksum that is whatever it should be."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True


async def test_were_blocks_not_verified_where_they_arrive_texts_would_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_calls, "slot_checksum", lambda *of: Anything())
    monkeypatch.setattr(Arriving, "checksum", lambda *of: Anything())
    async with two_hosts(tmp_path) as hosts:
        wrong = 0
        for _, chance in cases(7):
            each = asked(chance)
            await hosts.cached_near(each)
            hosts.near.line.flip(Way.COMING, block_bytes(chance, each))
            wrong += (await hosts.looked_up(each)).tokens != alone(each)
            hosts.near.line.heal()
        assert wrong >= 3


async def test_a_frame_whose_header_is_changed_in_flight_ends_its_connection_and_is_counted(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as hosts:
        warm = asked(random.Random(9))
        await hosts.cached_near(warm)
        await hosts.looked_up(warm)  # they are connected now, so what comes next is a frame with blocks
        for number, chance in cases(9):
            each = asked(chance)
            await hosts.cached_near(each)
            before = hosts.far.count("failures", reason=Reason.FRAME)
            hosts.near.line.flip(Way.COMING, chance.randrange(HEADER_BYTES))
            story = await hosts.looked_up(each)
            assert story.tokens == alone(each), number
            if len(each.prompt) > BLOCK_TOKENS:
                assert hosts.near.line.done, number
                assert story.cached_tokens == 0, number
                assert hosts.far.count("failures", reason=Reason.FRAME) == before + 1, number
            hosts.near.line.heal()


@pytest.mark.slow
@pytest.mark.usefixtures("block_by_block")
@pytest.mark.parametrize("seed", range(8))
async def test_whatever_goes_wrong_between_hosts_the_text_is_the_same(tmp_path: Path, seed: int) -> None:
    """Connections break and bytes change, sessions end, stores restart and have no room, at any moment."""
    chance = random.Random(seed)
    async with two_hosts(tmp_path, dram=60 * SLOT_BYTES, ssd=200 * 2 * SLOT_BYTES) as hosts:
        free = asyncio.Semaphore(6)

        async def one(number: int, each: Asked) -> None:
            async with free:
                path = (hosts.pushed, hosts.pushed, hosts.fetched, hosts.looked_up)[number % 4]
                assert (await path(each)).tokens == alone(each), number

        over = asyncio.Event()
        troubled = asyncio.create_task(trouble(hosts, chance, over))
        try:
            made = [asked(chance) for _ in range(50)]
            await hosts.it.together(one(number, each) for number, each in enumerate([*made, *made]))
        finally:
            over.set()
            await troubled  # not cancelled: it may be restarting a store
        for host in (hosts.near, hosts.far):
            host.line.heal()
            await host.connected(hosts.it)


async def trouble(hosts: Hosts, chance: random.Random, over: asyncio.Event) -> None:
    while not over.is_set():
        await asyncio.sleep(chance.uniform(0.01, 0.1))
        host, way, at = chance.choice([hosts.near, hosts.far]), chance.choice(list(Way)), chance.randrange(4000)
        match chance.choice(["cut", "cut for good", "flip", "flip", "heal", "session", "restart"]):
            case "cut":
                host.line.cut(way, at, forever=False)
            case "cut for good":
                host.line.cut(way, at)
            case "flip":
                host.line.flip(way, at)
            case "heal":
                host.line.heal()
            case "session":
                link = host.run.worker.link
                if link is not None and link.session is not None:
                    link.session.end()
            case "restart":
                await host.restart(hosts.it)
