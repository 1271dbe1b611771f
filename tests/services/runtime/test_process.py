"""The life of a process, with real ones: signals, refusals, and the death of a supervisor."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from services.runtime import heartbeat
from services.runtime.heartbeat import BEAT_S, HEARTBEAT_FD, Heartbeat, Pulse
from services.runtime.process import REFUSED, SUPERVISOR_PID
from services.runtime.supervisor import PROGRAM

DRAINING = """
    async def serve(stopping):
        print("serving", flush=True)
        await stopping.wait()
        print("draining", flush=True)
"""
STUBBORN = DRAINING + "        await asyncio.Event().wait()\n"
ENDING_S = 10.0
STUCK = """
    async def serve(stopping):
        print("serving", flush=True)
        await asyncio.sleep(0)
        import time
        time.sleep(60)
"""


def program(serve: str) -> list[str]:
    code = textwrap.dedent(f"""
    import asyncio, sys
    from services.runtime.process import Refusal, run_process
    {textwrap.dedent(serve).replace(chr(10), chr(10) + "    ")}
    sys.exit(run_process("child-0", serve))
    """)
    return [sys.executable, "-c", code]


@contextmanager
def child(serve: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs ``serve``, once it says so; killed on leaving if it still lives."""
    environment = {**os.environ, **variables}
    pipe = subprocess.PIPE
    with subprocess.Popen(program(serve), stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "serving\n"
            yield process
        finally:
            process.kill()


def test_a_process_drains_on_sigterm_and_ends_with_0() -> None:
    with child(DRAINING) as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=ENDING_S)
    assert (out, process.returncode) == ("draining\n", 0)
    assert "INFO child-0 stopping on SIGTERM" in err


def test_a_terminal_that_closes_ends_it_as_sigterm_does() -> None:
    with child(DRAINING) as process:
        process.send_signal(signal.SIGHUP)
        out, err = process.communicate(timeout=ENDING_S)
    assert (out, process.returncode) == ("draining\n", 0)
    assert "INFO child-0 stopping on SIGHUP" in err


def test_further_hangups_hurry_nothing() -> None:
    """The shell sends one to its jobs, and the kernel another when the shell ends."""
    with child(STUBBORN) as process:
        process.send_signal(signal.SIGHUP)
        assert process.stdout is not None
        assert process.stdout.readline() == "draining\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)  # heard after it
        assert process.wait(ENDING_S) == 128 + signal.SIGTERM


def test_a_hangup_that_was_ignored_from_the_beginning_stays_ignored() -> None:
    """As nohup starts a process."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with child(DRAINING) as process:
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=ENDING_S)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert process.returncode == 0
    assert "SIGHUP" not in err


def test_a_second_signal_ends_it_at_once() -> None:
    with child(STUBBORN) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "draining\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(ENDING_S) == 128 + signal.SIGINT


def test_a_refusal_is_one_sentence_and_a_status_of_its_own() -> None:
    refusing = """
        async def serve(stopping):
            async with asyncio.TaskGroup() as group:
                group.create_task(refuse())

        async def refuse():
            raise Refusal("this worker has another model")
    """
    done = subprocess.run(program(refusing), capture_output=True, text=True, timeout=ENDING_S)
    assert done.returncode == REFUSED
    assert done.stderr.endswith("ERROR child-0 this worker has another model\n")
    assert "Traceback" not in done.stderr


def test_any_other_error_is_logged_whole_and_ends_with_1() -> None:
    failing = """
        async def serve(stopping):
            raise KeyError("gone")
    """
    done = subprocess.run(program(failing), capture_output=True, text=True, timeout=ENDING_S)
    assert done.returncode == 1
    assert "ERROR child-0 ended by an error" in done.stderr
    assert "KeyError: 'gone'" in done.stderr


def test_a_process_dies_with_its_supervisor() -> None:
    """The supervisor starts a child that would never end by itself, tells its pid, and is killed."""
    supervisor = f"""
        import os, subprocess, sys
        environment = {{**os.environ, {SUPERVISOR_PID!r}: str(os.getpid())}}
        print(subprocess.Popen({program(STUBBORN)!r}, env=environment, stdout=sys.stdout).pid, flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(supervisor)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        said = sorted(process.stdout.readline() for _ in range(2))  # which of the two speaks first is open
        assert said[1] == "serving\n"
        grandchild = psutil.Process(int(said[0]))
        process.kill()
        process.wait(ENDING_S)
        assert process.stdout.read() == ""  # ends only when nobody holds the pipe any more: so the child is gone
    gone, alive = psutil.wait_procs([grandchild], timeout=ENDING_S)
    assert (gone, alive) == ([grandchild], [])


def test_a_process_whose_supervisor_is_dead_already_does_not_start() -> None:
    """Its parent is not the process that it is told to follow."""
    done = subprocess.run(
        program(DRAINING),
        capture_output=True,
        text=True,
        timeout=ENDING_S,
        env={**os.environ, SUPERVISOR_PID: str(os.getppid())},
    )
    assert (done.returncode, done.stdout) == (1, "")


def test_a_process_beats_from_its_event_loop_as_long_as_that_gets_on() -> None:
    for serve, beats in ((DRAINING, True), (STUCK, False)):
        reader, writer = os.pipe()
        environment = {**os.environ, HEARTBEAT_FD: str(writer)}
        with subprocess.Popen(
            program(serve), env=environment, pass_fds=(writer,), stdout=subprocess.DEVNULL
        ) as process:
            os.close(writer)
            try:
                assert os.read(reader, 1) == b"."
                more, _, _ = select.select([reader], [], [], 4 * BEAT_S if not beats else ENDING_S)
                assert bool(more) == beats
            finally:
                process.kill()
                os.close(reader)


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        ("async def serve(stopping):\n    raise Refusal('another  model')", "another model"),
        ("async def serve(stopping):\n    raise KeyError('gone')", "KeyError: 'gone'"),
        (
            "async def serve(stopping):\n    async with asyncio.TaskGroup() as group:\n"
            "        group.create_task(fail())\nasync def fail():\n    raise OSError('x' * 1000) from MemoryError()",
            "MemoryError",
        ),
        ("serve = 5", "TypeError: 'int' object is not callable"),
        ("async def serve(stopping):\n    pass", ""),
    ],
    ids=["refused", "failed", "of several", "before its loop", "well"],
)
async def test_a_process_tells_its_supervisor_why_it_ends(serve: str, words: str) -> None:
    with closing(Heartbeat()) as heart:
        environment = {**os.environ, HEARTBEAT_FD: str(heart.writer)}
        process = await asyncio.create_subprocess_exec(
            *program(textwrap.indent(serve, "    ")),
            env=environment,
            pass_fds=(heart.writer,),
            stderr=subprocess.DEVNULL,
        )
        heart.started()
        await process.wait()
    assert heart.last_words == words


async def test_a_command_that_does_not_get_far_tells_it_too(tmp_path: Path) -> None:
    """As when a package is missing, or a file of ours is broken."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['services.conductor'] = None\n")
    with closing(Heartbeat()) as heart:
        environment = {**os.environ, HEARTBEAT_FD: str(heart.writer), "PYTHONPATH": str(tmp_path)}
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, "conductor", env=environment, pass_fds=(heart.writer,), stderr=subprocess.DEVNULL
        )
        heart.started()
        assert await process.wait() == 1
    assert heart.last_words.startswith("ModuleNotFoundError: ")
    assert "services.conductor" in heart.last_words
    assert not heart.ready.is_set()


async def test_a_process_whose_work_hangs_does_not_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    monkeypatch.setenv(HEARTBEAT_FD, str(writer))
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.0)
    pulse = Pulse()
    asked = asyncio.Semaphore(0)
    gets_on = False

    def vital() -> bool:
        asked.release()
        return gets_on

    async def asked_again() -> None:
        while not asked.locked():
            await asked.acquire()
        for _ in range(3):
            await asked.acquire()

    pulse.vital = vital
    beating = asyncio.create_task(pulse.run())
    await asked_again()
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    gets_on = True
    await asked_again()
    assert os.read(reader, 100).startswith(b".")
    beating.cancel()
    for descriptor in (reader, writer):
        os.close(descriptor)


def test_a_process_may_open_as_many_files_as_its_hard_limit_allows() -> None:
    """Distributions start programs with a soft limit of 1,024, which a gateway's idle connections exceed."""
    serve = """
    async def serve(stopping):
        import resource
        print(resource.getrlimit(resource.RLIMIT_NOFILE), flush=True)
    """
    lower = "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 512))"
    limits = f"import resource, os, sys; {lower}; os.execv(sys.executable, sys.argv[1:])"
    ended = subprocess.run([sys.executable, "-c", limits, *program(serve)], capture_output=True, text=True, check=True)
    assert ended.stdout == "(512, 512)\n"
