"""When device blocks run out the youngest sequence is set back, and its text is what it would have been."""

from pathlib import Path

from tests.services.rig import rig, toy
from tests.services.worker.prompts import prompt


async def test_set_back_sequences_come_back_with_the_same_text(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        await it.store()
        alone = await it.client(await it.worker("alone"))
        run = await it.worker("worker-0", store="store-0", engine=toy(blocks=24), max_num_seqs=6)
        client = await it.client(run)
        prompts = [prompt(20 + number, salt=number) for number in range(6)]
        expected = [(await alone.decode(each, max_tokens=60, min_tokens=60)).tokens for each in prompts]
        stories = await it.together(
            client.decode(each, request=f"r{number}", max_tokens=60, min_tokens=60)
            for number, each in enumerate(prompts)
        )
        assert [story.tokens for story in stories] == expected
        assert run.worker.batcher.snapshot().preemptions > 0
        await it.comes_to_rest()
