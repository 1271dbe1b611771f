"""What every batch keeps to before a kernel sees it: kernels in C look up positions, blocks and ids unchecked."""

from engine.port import Engine
from scheduler.batch import Batch


def assert_within(engine: Engine, batch: Batch) -> None:
    """AssertionError, before anything is read or written, where a slice is not within the engine: its maker's bug."""
    size = engine.layout.block_tokens
    for piece in batch.slices:
        who, room = piece.request, len(piece.blocks) * size
        assert 0 <= piece.start < piece.end, f"{who} has a slice of [{piece.start}, {piece.end})"
        assert piece.end <= engine.max_model_len, (
            f"{who} has {piece.end} tokens, and the context {engine.max_model_len}"
        )
        assert piece.end <= room, f"{who} has {piece.end} tokens, and blocks for {room}"
        assert 0 <= min(piece.blocks) <= max(piece.blocks) < engine.blocks_total, f"{who} has a block beyond the device"
        assert 0 <= min(piece.tokens) <= max(piece.tokens) < engine.vocab_size, (
            f"{who} has a token beyond the vocabulary"
        )
