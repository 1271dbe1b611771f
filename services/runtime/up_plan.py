"""Which processes make a deployment on one machine, and the flags of each. Pure: values in, values out.

A child is given every value that it has a setting for, and no other. So a flag of
``moonpool up`` reaches the processes that know it without being listed here again.

A *host* here is a store and the workers that use it. With several, prefill workers have the first
half of them and decode workers the rest, so that every hand-over crosses a socket.
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


DRAIN_S = {Stage.GATEWAY: 7.0, Stage.WORKER: 6.0, Stage.STORE: 5.0, Stage.CONDUCTOR: 1.0}
"""How long each stage has to end by itself; together less than the 20 s that people wait.

A store writes to its SSD what is not there yet: about two seconds' worth, as write-behind is never further behind.
"""


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
    """What to start. known: the settings that each command has; values: what is common to all.

    hosts may be more than there are workers: a host without one lends its memory and its disk.
    """

    prefill: int
    decode: int
    hosts: int
    threads: int
    run_dir: Path
    known: Mapping[str, frozenset[str]]
    values: Values

    def children(self) -> list[Child]:
        """In the order of starting: whoever answers before whoever asks."""
        return [
            self._child("conductor-0", "conductor", Stage.CONDUCTOR, {}),
            *(self._child(f"store-{host}", "store", Stage.STORE, {}) for host in range(self.hosts)),
            *(self._worker("prefill", number, self._prefill_hosts) for number in range(self.prefill)),
            *(self._worker("decode", number, self._decode_hosts) for number in range(self.decode)),
            self._child("gateway-0", "gateway", Stage.GATEWAY, {}),
        ]

    @property
    def _prefill_hosts(self) -> range:
        return range((self.hosts + 1) // 2)

    @property
    def _decode_hosts(self) -> range:
        alone = self.hosts == 1 or self.prefill == 0
        return range(self.hosts) if alone else range(len(self._prefill_hosts), self.hosts)

    def _worker(self, role: str, number: int, hosts: range) -> Child:
        own = {"role": role, "store": self._target(f"store-{hosts[number % len(hosts)]}"), "threads": self.threads}
        # OpenMP makes its threads when torch is imported, before a worker can say how many it wants.
        return self._child(f"{role}-{number}", "worker", Stage.WORKER, own, {"OMP_NUM_THREADS": str(self.threads)})

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
