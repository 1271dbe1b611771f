"""Make a directory once, whole or not at all, however many processes ask for it.

It is built beside its place and renamed into it, under a lock; a marker inside says
what it was made from and how large each file is, so that one that lost something is made
anew. Processes that come meanwhile wait for the lock.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MARKER = "moonpool.json"


def make_once(
    directory: Path,
    origin: str,
    make: Callable[[Path], None],
    *,
    on_wait: Callable[[], None] = lambda: None,
) -> Path:
    """Return ``directory``, filled by ``make(scratch)`` unless it was already made from the same ``origin``.

    Whatever ``make`` raises leaves nothing behind, and an older directory as it was.
    """
    if _origin(directory) == origin:
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _locked(directory.parent / f".{directory.name}.lock", on_wait):
        if _origin(directory) == origin:
            return directory
        for abandoned in directory.parent.glob(f".{directory.name}.making-*"):
            shutil.rmtree(abandoned, ignore_errors=True)  # by the lock, whoever made it is dead
        scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}.making-", dir=directory.parent))
        try:
            make(scratch)
            (scratch / MARKER).write_text(json.dumps({"origin": origin, "files": _sizes(scratch)}) + "\n")
            _to_disk(scratch)
            _replace(scratch, directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return directory


def _origin(directory: Path) -> str | None:
    """What the directory was made from; None where it is not there, or not as it was made."""
    try:
        marker = json.loads((directory / MARKER).read_text())
        sizes = {name: (directory / name).stat().st_size for name in marker["files"]}
        return str(marker["origin"]) if sizes == marker["files"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sizes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in directory.iterdir()}


@contextmanager
def _locked(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Holds the lock file; the kernel lets go of it when its holder dies."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _to_disk(directory: Path) -> None:
    """Files before the rename that makes them visible, so that a power cut leaves none half-written in place."""
    for path in [*directory.iterdir(), directory]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _replace(scratch: Path, directory: Path) -> None:
    scratch.chmod(0o755)  # mkdtemp's own mode is 0700
    if directory.exists():
        shutil.rmtree(directory)
    scratch.rename(directory)
