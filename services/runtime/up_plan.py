"""Which processes make a deployment on one host, and the flags of each. Pure: values in, values out.

A child is given every value that it has a setting for, and no other. So a flag of
``moonpool up`` reaches the processes that know it without being listed here again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

Values = Mapping[str, object]


class Stage(IntEnum):
    """The order in which processes drain: whoever asks ends before whoever answers."""

    GATEWAY = 0
    WORKER = 1
    STORE = 2
    CONDUCTOR = 3


DRAIN_S = {Stage.GATEWAY: 7.0, Stage.WORKER: 6.0, Stage.STORE: 3.0, Stage.CONDUCTOR: 2.0}
"""How long each stage has to end by itself; together less than the 20 s that people wait."""


@dataclass(frozen=True, slots=True)
class Child:
    """One process: ``moonpool COMMAND FLAGS``, with these variables on top of the supervisor's own."""

    name: str
    command: str
    stage: Stage
    flags: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deployment:
    """What to start. known: the settings that each command has; values: what is common to all."""

    prefill: int
    decode: int
    threads: int
    run_dir: Path
    known: Mapping[str, frozenset[str]]
    values: Values

    def children(self) -> list[Child]:
        """In the order of starting: whoever answers before whoever asks."""
        store = self._target("store-0")
        workers = [("prefill", number) for number in range(self.prefill)]
        workers += [("decode", number) for number in range(self.decode)]
        return [
            self._child("conductor-0", "conductor", Stage.CONDUCTOR, {}),
            self._child("store-0", "store", Stage.STORE, {}),
            *(self._worker(f"{role}-{number}", {"role": role, "store": store}) for role, number in workers),
            self._child("gateway-0", "gateway", Stage.GATEWAY, {}),
        ]

    def _worker(self, name: str, own: Values) -> Child:
        # OpenMP makes its threads when torch is imported, before a worker can say how many it wants.
        variables = {"OMP_NUM_THREADS": str(self.threads)}
        return self._child(name, "worker", Stage.WORKER, {**own, "threads": self.threads}, variables)

    def _child(
        self, name: str, command: str, stage: Stage, own: Values, variables: Mapping[str, str] | None = None
    ) -> Child:
        places = {"id": name, "listen": self._target(name), "conductor": self._target("conductor-0")}
        values = {**self.values, **places, "run_dir": self.run_dir, **own}
        known = self.known[command]
        return Child(
            name=name,
            command=command,
            stage=stage,
            flags=tuple(flags({key: value for key, value in values.items() if key in known})),
            variables=variables or {},
        )

    def _target(self, name: str) -> str:
        return f"unix:{self.run_dir / name}.sock"


def flags(values: Values) -> list[str]:
    """Settings as a command line; None is left out."""
    words: list[str] = []
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        match value:
            case None:
                continue
            case bool():
                words.append(flag if value else flag.replace("--", "--no-", 1))
            case str() | int() | float() | Path():
                words += [f"{flag}={value}"]
            case Sequence():
                words += [f"{flag}={item}" for item in value]
            case _:
                raise TypeError(f"{name} is {value!r}")
    return words
