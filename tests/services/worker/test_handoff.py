"""A request that moves from a prefill worker to a decode worker gives what one worker alone would give."""

from pathlib import Path

from tests.services.rig import hand_over, rig

LENGTHS = (1, 2, 7, 8, 9, 15, 16, 17, 40, 100)


def prompt(length: int, salt: int = 0) -> list[int]:
    return [(salt * 31 + position * 7 + 1) % 500 for position in range(length)]


async def test_handed_over_streams_are_equal_to_streams_of_one_worker_alone(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        await it.store()
        alone = await it.client(await it.worker("alone"))
        prefill = await it.client(await it.worker("prefill-0", store="store-0"))
        decode = await it.client(await it.worker("decode-0", store="store-0"))
        for length in LENGTHS:
            expected = await alone.decode(prompt(length))
            story = await hand_over(prefill, decode, prompt(length))
            assert story.tokens == expected.tokens, length
            assert story.missing_blocks == 0, length
        await it.comes_to_rest()
