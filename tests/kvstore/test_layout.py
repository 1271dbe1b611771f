"""The bytes of a block, and who may share blocks."""

from dataclasses import replace

import pytest

from kvstore.layout import PAGE_BYTES, Identity, KvLayout
from tests.kvstore.builders import IDENTITY


def test_layers_lie_one_after_the_other_and_slots_are_whole_pages() -> None:
    layout = KvLayout(block_tokens=64, layer_bytes=(100, 5000, 7), axes="x")
    assert layout.layer_offsets == (0, 100, 5100)
    assert layout.block_bytes == 5107
    assert layout.slot_bytes == 2 * PAGE_BYTES


def test_a_block_that_fills_its_pages_has_no_padding() -> None:
    assert KvLayout(1, (PAGE_BYTES,), "x").slot_bytes == PAGE_BYTES


@pytest.mark.parametrize("layers", [(), (0,), (5, -1)])
def test_a_layout_without_bytes_is_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one token and one byte"):
        KvLayout(1, layers, "x")


def test_a_digest_tells_layouts_apart_by_everything_they_say() -> None:
    layout = KvLayout(64, (8, 8), "heads tokens")
    others = [
        KvLayout(32, (8, 8), "heads tokens"),
        KvLayout(64, (8, 9), "heads tokens"),
        KvLayout(64, (8, 8), "tokens"),
    ]
    assert len({layout.digest, *(other.digest for other in others)}) == 4


def test_the_display_name_of_a_model_does_not_keep_workers_apart() -> None:
    renamed = replace(IDENTITY, model="another name")
    assert renamed.fingerprint == IDENTITY.fingerprint
    assert IDENTITY.differences(renamed) is None


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (replace(IDENTITY, dtype="bfloat16"), "this deployment differs in dtype bfloat16 instead of float32"),
        (replace(IDENTITY, block_tokens=64), "this deployment differs in block size (tokens) 64 instead of 4"),
        (replace(IDENTITY, protocol=9), "this deployment differs in protocol version 9 instead of 3"),
        (
            replace(IDENTITY, model="m2", weights="w2"),
            "this deployment differs in model weights w2 instead of w1 (model m2 instead of toy)",
        ),
    ],
)
def test_a_difference_is_told_in_a_sentence(other: Identity, sentence: str) -> None:
    assert IDENTITY.differences(other) == sentence
