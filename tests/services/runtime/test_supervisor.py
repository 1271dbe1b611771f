"""The supervisor with real children: tiny programs that tell over a socket what happens to them."""

import asyncio
import errno
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.runtime.backoff import PAUSES_S, STILLBORN
from services.runtime.child_process import ChildProcess
from services.runtime.supervisor import START_S, Supervisor
from services.runtime.up_plan import DRAIN_S, Child, Stage

PROGRAM = """
import os, signal, socket, sys, time
behaviour, name, place = sys.argv[1:]
if behaviour == "refuse":
    sys.exit(2)
if behaviour == "dies":
    os.write(int(os.environ["MOONPOOL_HEARTBEAT_FD"]), b"..\\0it has no luck")
    sys.exit(1)
line = socket.socket(socket.AF_UNIX)
line.connect(place)
def tell(what):
    line.sendall(f"{what} {name} {os.getpid()} {time.monotonic_ns()}\\n".encode())
def ended(*_):
    tell("ended")
    if behaviour != "stubborn":
        os._exit(0)
signal.signal(signal.SIGTERM, ended)
beat = int(os.environ["MOONPOOL_HEARTBEAT_FD"])
if behaviour == "ready":
    os.write(beat, b"!")
if behaviour == "ready once":
    import pathlib
    mark = pathlib.Path(place + "." + name)
    if mark.exists():
        tell("refused")
        os.write(beat, b"\\0no room")
        sys.exit(78)
    mark.touch()
    os.write(beat, b"!")
if behaviour == "ends well":
    os.write(beat, b"!")
    tell("started")
    sys.exit(0)
if behaviour == "floods":
    os.write(beat, b"!")
    tell("started")
    while True:
        try:
            os.write(2, b"a line\\n" * 1000)
        except BlockingIOError:
            tell("full")
            break
tell("started")
if behaviour == "hangs":
    os.write(beat, b".")
while behaviour == "beats":
    os.write(beat, b".")
    signal.sigtimedwait([], 0.01)
while True:
    signal.pause()
"""
WAIT_S = 20.0


@dataclass
class Stand:
    """A supervisor that runs, and what its children have told."""

    supervisor: Supervisor
    stopping: asyncio.Event
    running: "asyncio.Task[None]"
    told: "asyncio.Queue[tuple[str, str, int, int]]" = field(default_factory=asyncio.Queue)

    async def next(self, what: str) -> tuple[str, int]:
        """Name and pid of the next child that tells that."""
        _, name, pid = await self.next_at(what)
        return name, pid

    async def next_at(self, what: str) -> tuple[int, str, int]:
        """The same after when it did, as children may be heard in another order."""
        while True:
            said, name, pid, at_ns = await asyncio.wait_for(self.told.get(), WAIT_S)
            if said == what:
                return at_ns, name, pid

    async def awaits(self, *names: str) -> None:
        """Returns once the supervisor awaits just these: what a child beats may be heard after what it tells."""
        async with asyncio.timeout(WAIT_S):
            while self.supervisor.awaited != list(names):  # noqa: ASYNC110 - what is watched has no event to wait for
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self.stopping.set()
        await asyncio.wait_for(self.running, WAIT_S)


@asynccontextmanager
async def stand(
    directory: Path,
    *children: tuple[str, Stage, str],
    drain_s: Mapping[Stage, float] = DRAIN_S,
    hang_s: float = 0.0,
    start_s: float = START_S,
    pauses_s: Sequence[float] = PAUSES_S,
    python: Path = Path(sys.executable),
) -> AsyncIterator[Stand]:
    """children: name, stage, behaviour. On leaving the supervisor is told to stop, and no child lives."""
    before = psutil.Process().children()
    place = str(directory / "s")
    program = directory / "program.py"
    program.write_text(PROGRAM)
    stopping = asyncio.Event()
    supervisor = Supervisor(
        [Child(name, behaviour, stage, (name, place)) for name, stage, behaviour in children],
        program=(str(python), str(program)),
        drain_s=drain_s,
        hang_s=hang_s,
        start_s=start_s,
        pauses_s=pauses_s,
    )
    told: asyncio.Queue[tuple[str, str, int, int]] = asyncio.Queue()
    listening: set[asyncio.Event] = set()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard_all = asyncio.Event()
        listening.add(heard_all)
        try:
            async for line in reader:
                what, name, pid, at_ns = line.decode().split()
                told.put_nowait((what, name, int(pid), int(at_ns)))
        finally:
            writer.close()
            await writer.wait_closed()
            heard_all.set()

    async with await asyncio.start_unix_server(listen, place):
        made = Stand(supervisor, stopping, asyncio.create_task(supervisor.run(stopping)), told)
        try:
            yield made
        finally:
            await made.stop()
            for heard_all in listening:  # all are dead, and a server does not wait for its connections
                await asyncio.wait_for(heard_all.wait(), WAIT_S)
            assert psutil.Process().children() == before


async def test_a_killed_child_is_started_again_at_once(tmp_path: Path) -> None:
    async with stand(tmp_path, ("decode-0", Stage.WORKER, "live")) as made:
        _, first = await made.next("started")
        os.kill(first, signal.SIGKILL)
        name, second = await made.next("started")
        assert (name, second != first) == ("decode-0", True)


async def test_a_child_that_falls_silent_is_killed_and_started_again(tmp_path: Path) -> None:
    async with stand(tmp_path, ("decode-0", Stage.WORKER, "hangs"), hang_s=0.2) as made:
        _, first = await made.next("started")
        _, second = await made.next("started")
        assert second != first
        assert not psutil.pid_exists(first)


async def test_a_child_that_beats_or_has_never_beaten_is_left_alone(tmp_path: Path) -> None:
    children = [
        ("store-0", Stage.STORE, "beats"),
        ("decode-0", Stage.WORKER, "starts"),
        ("decode-1", Stage.WORKER, "hangs"),
    ]
    async with stand(tmp_path, *children, hang_s=1.0) as made:
        pids = [(await made.next("started"))[1] for _ in children]
        name, _ = await made.next("started")
        assert name == "decode-1"
        assert sum(psutil.pid_exists(pid) for pid in pids) == 2, "the others live as long"


async def test_stages_drain_one_after_the_other(tmp_path: Path) -> None:
    stages = {
        "conductor-0": Stage.CONDUCTOR,
        "store-0": Stage.STORE,
        "decode-0": Stage.WORKER,
        "gateway-0": Stage.GATEWAY,
    }
    async with stand(tmp_path, *((name, stage, "live") for name, stage in stages.items())) as made:
        assert {(await made.next("started"))[0] for _ in stages} == set(stages)
        await made.stop()
        ends = sorted([await made.next_at("ended") for _ in stages])
        assert [name for _, name, _ in ends] == ["gateway-0", "decode-0", "store-0", "conductor-0"]
        assert made.supervisor.given_up is None


async def test_a_child_that_does_not_end_is_killed_at_its_deadline(tmp_path: Path) -> None:
    async with stand(tmp_path, ("store-0", Stage.STORE, "stubborn"), drain_s=dict.fromkeys(Stage, 0.1)) as made:
        _, pid = await made.next("started")
        await made.stop()
        assert not psutil.pid_exists(pid)


async def test_a_child_that_is_refused_ends_the_deployment(tmp_path: Path) -> None:
    children = (("conductor-0", Stage.CONDUCTOR, "live"), ("store-0", Stage.STORE, "refuse"))
    async with stand(tmp_path, *children) as made:
        await asyncio.wait_for(made.running, WAIT_S)
        assert made.supervisor.given_up is not None
        assert made.supervisor.given_up.startswith("store-0 is refused as it is configured (exit status 2)")


async def test_a_child_that_is_never_ready_ends_the_deployment_with_its_last_words(tmp_path: Path) -> None:
    children = (("conductor-0", Stage.CONDUCTOR, "live"), ("decode-0", Stage.WORKER, "dies"))
    async with stand(tmp_path, *children, pauses_s=(0.0,)) as made:
        await asyncio.wait_for(made.running, WAIT_S)
        assert made.supervisor.given_up == (
            "decode-0 was never ready: it has ended 5 times, the last time with exit status 1: it has no luck"
        )


async def test_a_child_that_was_ready_once_is_started_again_however_often_it_dies(tmp_path: Path) -> None:
    async with stand(tmp_path, ("decode-0", Stage.WORKER, "ready"), pauses_s=(0.0,)) as made:
        for _ in range(STILLBORN + 2):
            _, pid = await made.next("started")
            await made.awaits()
            os.kill(pid, signal.SIGKILL)
        await made.next("started")
        assert made.supervisor.given_up is None


async def test_the_deployment_goes_on_without_a_child_that_is_refused_after_it_was_ready(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    children = (("conductor-0", Stage.CONDUCTOR, "ready"), ("store-0", Stage.STORE, "ready once"))
    async with stand(tmp_path, *children, pauses_s=(0.0,)) as made:
        pids = dict([await made.next("started"), await made.next("started")])
        await made.awaits()
        os.kill(pids["store-0"], signal.SIGKILL)
        for _ in range(2 * STILLBORN):
            await made.next("refused")
        assert made.supervisor.given_up is None
        assert made.supervisor.awaited == ["store-0"]
        assert psutil.pid_exists(pids["conductor-0"])
        missed = "store-0 does not come back: the deployment goes on without it and keeps starting it"
        assert caplog.messages.count(missed) == 1

        await asyncio.to_thread((tmp_path / "s.store-0").unlink)
        await made.awaits()
        assert caplog.messages.count("store-0 is back") == 1


async def test_a_child_that_ends_unasked_with_0_is_started_again(tmp_path: Path) -> None:
    async with stand(tmp_path, ("decode-0", Stage.WORKER, "ends well"), pauses_s=(0.0,)) as made:
        for _ in range(STILLBORN + 1):
            await made.next("started")
        assert made.supervisor.given_up is None


async def test_a_child_that_never_begins_to_beat_is_killed_once_that_is_too_long(tmp_path: Path) -> None:
    async with stand(tmp_path, ("decode-0", Stage.WORKER, "starts"), hang_s=0.05, start_s=0.1) as made:
        _, first = await made.next("started")
        _, second = await made.next("started")
        assert second != first


async def test_an_interpreter_that_is_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    async with stand(tmp_path, ("decode-0", Stage.WORKER, "ready"), pauses_s=(0.0,), python=python) as made:
        _, first = await made.next("started")
        await made.awaits()
        python.unlink()
        os.kill(first, signal.SIGKILL)
        await made.awaits("decode-0")
        python.symlink_to(sys.executable)
        _, second = await made.next("started")
        assert second != first


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
async def test_a_fork_that_fails_for_a_while_ends_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter(range(2 * STILLBORN))
    start = ChildProcess.start
    failed = asyncio.Event()

    def short_of_something(*args: Any, **keywords: Any) -> ChildProcess:
        if next(failures, None) is not None:
            failed.set()
            raise OSError(number, os.strerror(number))
        return start(*args, **keywords)

    async with stand(tmp_path, ("decode-0", Stage.WORKER, "ready"), pauses_s=(0.0,)) as made:
        _, first = await made.next("started")
        await made.awaits()
        monkeypatch.setattr(ChildProcess, "start", short_of_something)
        os.kill(first, signal.SIGKILL)
        await asyncio.wait_for(failed.wait(), WAIT_S)
        _, second = await made.next("started")
        assert second != first
        assert made.supervisor.given_up is None


async def test_a_child_is_not_stalled_by_a_supervisor_that_does_not_read(tmp_path: Path) -> None:
    """The child tells when it has found its pipe full; until then nothing of ours has read it."""
    async with stand(tmp_path, ("decode-0", Stage.WORKER, "floods")) as made:
        await made.next("started")
        await made.next("full")


async def test_what_a_child_wrote_is_passed_on_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with stand(tmp_path, ("decode-0", Stage.WORKER, "floods")) as made:
        await made.next("full")
    lines = capsys.readouterr().err.splitlines()
    assert set(lines[:-1]) == {"a line"}
    assert len(lines) > 1000


async def test_who_is_not_ready_is_awaited(tmp_path: Path) -> None:
    children = (("store-0", Stage.STORE, "ready"), ("decode-0", Stage.WORKER, "beats"))
    async with stand(tmp_path, *children) as made:
        assert made.supervisor.awaited == ["store-0", "decode-0"]
        for _ in children:
            await made.next("started")
        await made.awaits("decode-0")


async def test_children_that_can_never_be_started_end_the_deployment_with_a_sentence(tmp_path: Path) -> None:
    child = Child("store-0", "store", Stage.STORE, ())
    supervisor = Supervisor([child], program=(str(tmp_path / "no-such-python"),), pauses_s=(0.0,))
    await supervisor.run(asyncio.Event())
    assert supervisor.given_up is not None
    assert f"can't be started with {tmp_path}/no-such-python: No such file" in supervisor.given_up


async def test_ctrl_c_in_the_terminal_reaches_the_supervisor_only(tmp_path: Path) -> None:
    async with stand(tmp_path, ("store-0", Stage.STORE, "live")) as made:
        _, pid = await made.next("started")
        assert os.getpgid(pid) == pid != os.getpgid(0)


async def test_children_are_told_whose_death_is_theirs_and_no_port_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOONPOOL_METRICS_PORT", "9100")
    async with stand(tmp_path, ("store-0", Stage.STORE, "live")) as made:
        _, pid = await made.next("started")
        environment = psutil.Process(pid).environ()
        assert environment["MOONPOOL_SUPERVISOR_PID"] == str(os.getpid())
        assert "MOONPOOL_METRICS_PORT" not in environment


async def test_any_free_port_for_metrics_is_for_every_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOONPOOL_METRICS_PORT", "0")
    async with stand(tmp_path, ("store-0", Stage.STORE, "live")) as made:
        _, pid = await made.next("started")
        assert psutil.Process(pid).environ()["MOONPOOL_METRICS_PORT"] == "0"


async def test_who_is_in_a_hurry_waits_for_no_drain(tmp_path: Path) -> None:
    long = dict.fromkeys(Stage, 10 * WAIT_S)
    async with stand(tmp_path, ("decode-0", Stage.WORKER, "stubborn"), drain_s=long) as made:
        await made.next("started")
        made.stopping.set()
        await made.next("ended")
        made.supervisor.hurry()
        await made.stop()
