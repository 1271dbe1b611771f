"""Machines to simulate, one JSON file each: facts with their sources; ``simulator.machine`` derives the costs.

Those of this folder go by their names; others by their path, as ``moonpool bench engine --fit FILE`` writes them.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from loadtest.simulator.machine import Machine, machine

SUFFIX = ".json"


class ProfileError(ValueError):
    """No machine of that name, with those there are; or a file that is none, and why."""


def names() -> list[str]:
    return sorted(path.name.removesuffix(SUFFIX) for path in files(__name__).iterdir() if path.name.endswith(SUFFIX))


def load(name: str) -> Machine:
    """name: one of ``names()``, or the path of a file that ends in .json. Raises ProfileError."""
    if name in names():
        return machine(json.loads(files(__name__).joinpath(name + SUFFIX).read_text(encoding="utf-8")))
    if not name.endswith(SUFFIX):
        raise ProfileError(f"no profile {name!r}; there are {', '.join(names())}, and paths of files that end in .json")
    facts = _read(Path(name))
    try:
        return machine(facts)
    except KeyError as error:
        raise ProfileError(f"{name} is no profile: {error} is missing") from error
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ProfileError(f"{name} is no profile: {error}") from error


def _read(path: Path) -> Mapping[str, Any]:  # Any: JSON
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"{path} can't be read ({error.strerror})") from error
    except ValueError as error:
        raise ProfileError(f"{path} is no JSON: {error}") from error
    if not isinstance(facts, dict):
        raise ProfileError(f"{path} is no profile: it holds no object")
    return facts
