"""Where files go: what must outlive a process, and what must not."""

import os
from pathlib import Path


def default_data_dir() -> Path:
    """The user's data directory (XDG), for models and everything else that must outlive a process."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "moonpool"
