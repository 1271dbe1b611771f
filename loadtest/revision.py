"""Which commit a figure was made with."""

import subprocess
from pathlib import Path


def revision() -> str | None:
    """The checkout's commit, with ``+`` where files differ from it; None outside a checkout."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def _git(*words: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *words]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
