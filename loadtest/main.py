"""``moonpool loadtest run|sweep|compare|report``: finds the one that is asked for."""

import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "run": ("loadtest.run", "offer a workload to a server, and measure what becomes of it"),
    "sweep": ("loadtest.sweep", "find the highest rate at which enough requests keep their bounds"),
    "compare": (
        "loadtest.compare",
        "offer the same to two servers, or twice, and tell what differs by more than noise",
    ),
    "report": ("loadtest.report.main", "draw runs: one HTML page, and PNGs"),
}
"""Each one's module, and what it does."""


def main(argv: Sequence[str]) -> int:
    name, rest = (argv[0], argv[1:]) if argv else ("", [])
    if name in ("--help", "-h"):
        print(usage())
        return 0
    if name not in COMMANDS:
        wrong = f"no {name!r}" if name else "what?"
        print(f"moonpool loadtest: {wrong}: one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return int(import_module(COMMANDS[name][0]).main(rest) or 0)


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {words}" for name, (_, words) in COMMANDS.items()]
    return "\n".join(["usage: moonpool loadtest COMMAND [flags]", "", *lines, "", "each tells its flags with --help"])
