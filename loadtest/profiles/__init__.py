"""Machines to simulate, one JSON file each: facts with their sources; ``simulator.machine`` derives the costs."""

import json
from importlib.resources import files

from loadtest.simulator.machine import Machine, machine


class UnknownProfile(ValueError):
    """No machine of that name; the message lists those there are."""


def names() -> list[str]:
    return sorted(path.name.removesuffix(".json") for path in files(__name__).iterdir() if path.name.endswith(".json"))


def load(name: str) -> Machine:
    """Raises UnknownProfile."""
    if name not in names():
        raise UnknownProfile(f"no profile {name!r}; there are {', '.join(names())}")
    return machine(json.loads(files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8")))
