"""Where files go: what must outlive a process, and what must not."""

import os
from pathlib import Path


class NoHome(Exception):
    """This user has no home directory; the message is a sentence."""


def default_data_dir() -> Path:
    """The user's data directory (XDG), for models and everything else that must outlive a process. Raises NoHome."""
    base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    if base.startswith("~"):
        raise NoHome("this user has no home directory: give --data-dir (or MOONPOOL_DATA_DIR), or set HOME")
    return Path(base) / "moonpool"
