"""What stores that were killed have left in an arena directory: arenas, and the sockets beside them."""

from contextlib import suppress
from pathlib import Path

from kvstore.arena import DOOR, PREFIX, clear_leftovers
from services.wire.socket_file import clear_dead


def clear_arena_directory(directory: Path) -> list[Path]:
    """Remove arenas that no living store holds, and sockets that nothing listens at. Returns the arenas' paths.

    The socket of an arena goes with it; one whose arena was removed first is left, and found here. Raises ArenaError.
    """
    cleared = clear_leftovers(directory)
    for door in directory.glob(f"{PREFIX}*{DOOR}"):
        if not door.with_name(door.name.removesuffix(DOOR)).exists():
            with suppress(OSError):  # not ours, or gone meanwhile
                clear_dead(door)
    return cleared
