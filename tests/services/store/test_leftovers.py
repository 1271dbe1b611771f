"""What killed stores left in an arena directory is removed, and what is in use is not."""

import socket
from pathlib import Path

from kvstore.arena import Arena, door_of
from services.store.leftovers import clear_arena_directory
from services.wire.framed import short_address


def door(arena: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    with short_address(door_of(arena)) as address:
        made.bind(address)
    made.listen()
    return made


def test_doors_whose_arena_was_removed_go_once_nothing_listens_there(tmp_path: Path) -> None:
    dead, unnamed, starting = (tmp_path / f"moonpool-{name}" for name in ("dead", "unnamed", "starting"))
    for path in (dead, starting):
        door(path).close()
    arena = Arena.create(tmp_path, starting.name, 4096)
    with door(unnamed):
        assert clear_arena_directory(tmp_path) == []
        assert sorted(tmp_path.iterdir()) == [starting, door_of(starting), door_of(unnamed)]
    arena.close()
    assert clear_arena_directory(tmp_path) == [starting]
    assert list(tmp_path.iterdir()) == []
