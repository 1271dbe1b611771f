"""Reserve device blocks for a sequence, and find what it need not compute.

Blocks that the device has cached are pinned first, so that taking the rest can't evict them;
either everything is reserved or nothing has changed.
"""

from dataclasses import dataclass

from kvstore.device import DeviceBlocks
from kvstore.names import BlockName
from scheduler.sequence import Running, tail_name
from scheduler.vocabulary import RequestId


@dataclass(frozen=True, slots=True)
class Load:
    """An admitted sequence and the prefix that it can reuse; it waits until ``Batcher.loaded``.

    names: of all blocks that may be reused, in prefix order; with ``handed_over`` the last may be
    short. held: those of them that the device has, with their blocks, pinned until the sequence
    leaves. targets: the device blocks that ``missing`` may be copied to. expected: how many of them its
    placement expects somewhere, here or in another store. handoff: of a sequence that will be handed over, the names
    of all its prompt's blocks, the last of them short where handoff_short.
    """

    request: RequestId
    names: tuple[BlockName, ...]
    held: tuple[tuple[BlockName, int], ...]
    targets: tuple[int, ...]
    expected: int
    handoff: tuple[BlockName, ...] = ()
    handoff_short: bool = False

    @property
    def reused(self) -> int:
        return len(self.held)

    @property
    def missing(self) -> tuple[BlockName, ...]:
        """What to ask the store for."""
        return self.names[len(self.held) :]

    @property
    def fetchable(self) -> int:
        """How many of ``missing`` another store may be asked for, where there is one.

        What lies behind them was computed by no one as far as the conductor knows: the new turn of a chat, mostly.
        To ask for it costs slots here for blocks that never come, and looks like a fetch that failed.
        """
        return max(0, self.expected - len(self.held))


def reserve(running: Running, device: DeviceBlocks, size: int) -> Load | None:
    """Pin what the device has of its prefix and take blocks for the rest and one token more; None: too few.

    size: tokens in a block. The last token is never reused: its logits are wanted.
    """
    tokens = len(running.tokens)
    names = running.names[: (tokens - 1) // size]
    held = device.match(names)
    device.pin(held)
    wanted = -(-(tokens if running.hand_over else tokens + 1) // size)
    fresh = device.take(wanted - len(held), after=held[-1] if held else None)
    if fresh is None:
        device.unpin(held)
        return None
    running.blocks, running.reused = held + fresh, len(held)
    if running.handed_over and (tokens - 1) % size:
        names.append(tail_name(running, tokens - 1, size))
    pairs, targets = tuple(zip(names, held, strict=False)), tuple(running.blocks[len(held) : len(names)])
    expected = len(names) if running.handed_over else min(len(names), running.urgency.cached_tokens // size)
    if not running.hand_over:
        return Load(running.request, tuple(names), pairs, targets, expected)
    handoff, short = running.names[: tokens // size], tokens % size != 0
    if short:
        handoff.append(tail_name(running, tokens, size))
    return Load(running.request, tuple(names), pairs, targets, expected, tuple(handoff), short)


def match_again(running: Running, device: DeviceBlocks, size: int) -> None:
    """Take over what others have computed of its prefix since it was admitted, as when many ask about one text at once.

    Only before its first slice: from then on some of its blocks are half written.
    """
    if running.started_s is not None:
        return
    have = running.computed // size
    held = device.match(running.names[: (len(running.tokens) - 1) // size])
    if len(held) <= have:
        return
    device.pin(held[have:])
    device.unpin(running.blocks[have : len(held)])
    running.blocks[have : len(held)] = held[have:]
    running.computed = len(held) * size
    if not running.handed_over:
        running.cached_tokens = min(running.computed, running.prompt)
