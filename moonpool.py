"""The command: ``moonpool COMMAND ..``. Finds a command's ``main(argv)`` and runs it; nothing imports this file.

Imports are late, so that ``--help`` answers at once and a process loads only what it needs.
"""

import errno
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from services.runtime.heartbeat import last_words
from services.runtime.output import discard_stdout, guard_output
from services.runtime.process import end_with_supervisor, in_short

FAILED, INTERRUPTED = 1, 130
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""A disk that is full, a terminal that is gone."""

COMMANDS = {
    "up": ("services.runtime.up", "run a whole deployment on this machine"),
    "gateway": ("services.gateway.main", "one process: HTTP, text, the story of each request"),
    "conductor": ("services.conductor.main", "one process: beliefs about the cluster, every placement"),
    "worker": ("services.worker.main", "one process: a model, its device blocks, its batch"),
    "store": ("services.store.main", "one process: a host's arena of KV blocks"),
    "pull": ("services.models.main", "fetch and convert a model"),
    "status": ("services.status.main", "show what a running deployment is doing"),
    "loadtest": ("loadtest.main", "measure a live endpoint, or a simulated one, under a workload"),
    "simulate": ("loadtest.simulate", "replay a trace on a simulated cluster"),
    "plan": ("loadtest.plan.main", "find the smallest cluster for a trace and its SLOs, simulated"),
    "reproduce": ("loadtest.reproduce.main", "run the papers' experiments, simulated"),
    "bench": ("", "measure a part against its limit: conductor, engine, store, transfer"),
}
"""Each command's module, and what it does. The module of ``bench`` is its part's."""

SERVING = frozenset({"up", "gateway", "conductor", "worker", "store"})
"""Those that go on whatever becomes of their output; the others are done once its reader has left."""

BENCHES = {
    "conductor": "services.bench.conductor",
    "engine": "services.bench.engine",
    "store": "services.bench.store",
    "transfer": "services.bench.transfer",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. Without ``argv`` it is this process's own, and owns its output."""
    end_with_supervisor()
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        guard_output(serves=bool(words) and words[0] in SERVING)
    try:
        try:
            return _run(words)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, as at the interpreter's end an error would be a page of its own
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # what read our output has left, and has all that it wanted
        status = FAILED
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        print(f"moonpool: can't write: {error.strerror}", file=sys.stderr)
        status = FAILED
    if argv is None:
        discard_stdout()
    return status


def _run(words: Sequence[str]) -> int:
    command, rest = (words[0], words[1:]) if words else ("--help", [])
    if command in ("--help", "-h", "help"):
        print(usage())
        return 0
    if command == "--version":
        print(f"moonpool {version('moonpool')}")
        return 0
    module = COMMANDS.get(command, ("", ""))[0]
    if command == "bench":
        part, rest = (rest[0], rest[1:]) if rest else ("", [])
        module = BENCHES.get(part, "")
        if part in ("--help", "-h"):
            print(f"usage: moonpool bench {'|'.join(BENCHES)} [--json] [..]")
            return 0
        if not module:
            return _mistake(f"bench needs a part: {', '.join(BENCHES)}" if not part else f"no bench of {part!r}")
    if not module:
        return _mistake(f"no command {command!r}")
    try:
        return int(import_module(module).main(rest) or 0)
    except Exception as error:
        last_words(in_short(error))  # of a process that a supervisor has started, and that did not get far
        raise


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {words}" for name, (_, words) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: moonpool COMMAND [flags]",
            "",
            "Serve large language models: prefill and decode apart, KV cache shared.",
            "",
            *lines,
            "",
            "moonpool COMMAND --help tells a command's flags; moonpool --version this release.",
        ]
    )


def _mistake(sentence: str) -> int:
    print(f"moonpool: {sentence}\ntry 'moonpool --help'", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
