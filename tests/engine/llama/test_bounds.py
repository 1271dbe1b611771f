"""Neither engine runs a batch that is not within it: its kernels would read or write beyond their memory."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from engine.port import Engine
from engine.toy import ToyEngine
from scheduler.batch import Batch, Slice
from scheduler.vocabulary import RequestId, Sampling
from tests.engine.llama.checkpoints import save_model
from tests.engine.llama.driving import BLOCK, load

CONTEXT = 100


def torch_engine(directory: Path) -> Engine:
    save_model(directory, "Llama")
    return load(directory, max_model_len=CONTEXT)


def toy_engine(_: Path) -> Engine:
    return ToyEngine(50, block_tokens=BLOCK, max_model_len=CONTEXT, vocab_size=300)


def last_token(engine: Engine, **changes: object) -> Batch:
    """One token at the very end of the context, with a change."""
    fields = {"tokens": [1], "start": CONTEXT - 1, "blocks": list(range(7)), **changes}
    return Batch((Slice(RequestId("a"), sampling=Sampling(), **fields),))  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [torch_engine, toy_engine])
def test_a_slice_beyond_the_engine_is_not_run(tmp_path: Path, make: Callable[[Path], Engine]) -> None:
    engine = make(tmp_path)
    assert engine.max_model_len == CONTEXT
    (token,) = engine.run(last_token(engine)).tokens
    assert token is not None
    beyond: Sequence[tuple[dict[str, object], str]] = [
        ({"start": CONTEXT}, "a has 101 tokens, and the context 100"),
        ({"tokens": [1, 1]}, "a has 101 tokens, and the context 100"),
        ({"start": -1}, r"slice of \[-1, 0\)"),
        ({"tokens": []}, r"slice of \[99, 99\)"),
        ({"blocks": list(range(6))}, "a has 100 tokens, and blocks for 96"),
        ({"blocks": [*range(6), engine.blocks_total]}, "beyond the device"),
        ({"blocks": [-1, *range(6)]}, "beyond the device"),
        ({"tokens": [engine.vocab_size]}, "beyond the vocabulary"),
        ({"tokens": [-1]}, "beyond the vocabulary"),
    ]
    for changes, sentence in beyond:
        with pytest.raises(AssertionError, match=sentence):
            engine.run(last_token(engine, **changes))
