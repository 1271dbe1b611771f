"""Output that is not read, or can't be written: it neither stalls nor ends a process."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from services.runtime.output import FULL, Outlet, fill_standard_descriptors, never_wait, text_stream

PATIENCE_S = 20.0
LINE = b"x" * 1023 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Reader and writer; whichever is still open afterwards is closed."""
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        with suppress(OSError):
            os.close(descriptor)


def read_until(reader: int, end: bytes) -> bytes:
    said = b""
    while not said.endswith(end):
        said += os.read(reader, 65_536)
    return said


def test_lines_come_out_whole_and_in_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    outlet = Outlet(writer)
    for number in range(100):
        outlet.put(b"%d\n" % number)
    assert outlet.flush(PATIENCE_S)
    assert os.read(reader, 65_536).split() == [b"%d" % number for number in range(100)]
    assert outlet.dropped == 0


@pytest.mark.parametrize("waits", [True, False], ids=["writes wait", "writes fail"])
def test_what_nothing_reads_is_dropped_counted_and_said_where_it_is_missing(pipe: tuple[int, int], waits: bool) -> None:
    reader, writer = pipe
    os.set_blocking(writer, waits)
    outlet = Outlet(writer, most_bytes=100 * len(LINE))
    for _ in range(1000):
        outlet.put(LINE)
    assert not outlet.flush(0.0)
    dropped = outlet.dropped
    assert 1000 - 100 - 65 <= dropped < 1000, "a pipe takes 64 of them, and one is on its way"
    said = read_until(reader, f'reason="{FULL}"\n'.encode())
    kept, note = said[: -len(said.split(LINE)[-1])], said.split(LINE)[-1].decode()
    assert kept == LINE * (1000 - dropped)
    assert f"lines of output were dropped lines={dropped}" in note

    assert outlet.flush(PATIENCE_S)
    outlet.put(b"again\n")
    assert outlet.flush(PATIENCE_S)
    assert os.read(reader, 65_536) == b"again\n"


def test_a_reader_that_has_left_is_not_missed_and_one_that_comes_is_told(
    tmp_path: Path,
) -> None:
    """As with a named pipe: each line is tried."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    outlet = Outlet(writer)
    os.close(reader)
    for _ in range(3):
        outlet.put(b"lost\n")
    assert outlet.flush(PATIENCE_S)
    assert outlet.dropped == 3
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    outlet.put(b"heard\n")
    assert outlet.flush(PATIENCE_S)
    note, heard = os.read(reader, 65_536).decode().splitlines()
    assert note.endswith('lines of output were dropped lines=3 reason="Broken pipe"')
    assert heard == "heard"
    os.close(reader)
    os.close(writer)


def test_a_full_disk_is_no_error_of_whatever_logs() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        outlet = Outlet(full.fileno())
        stream = text_stream(outlet)
        print("one\ntwo", file=stream)
        assert outlet.flush(PATIENCE_S)
        assert outlet.dropped == 2


def test_a_stream_passes_on_whole_lines_and_the_rest_when_flushed(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    outlet = Outlet(writer)
    stream = text_stream(outlet)
    print("a", "b", file=stream)
    stream.write("bar")
    assert outlet.flush(PATIENCE_S)
    assert os.read(reader, 100) == b"a b\n"
    stream.write(" \udcff")
    stream.flush()
    assert outlet.flush(PATIENCE_S)
    assert os.read(reader, 100) == b"bar \\udcff"
    assert not stream.isatty()
    assert stream.fileno() == writer


def test_a_pipe_that_is_shared_stays_as_it_was_for_the_others(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    ours = os.dup(writer)
    never_wait(ours)
    assert (os.get_blocking(ours), os.get_blocking(writer)) == (False, True)
    os.write(ours, b"still there")
    assert os.read(reader, 100) == b"still there"
    os.close(ours)


def test_files_stay_what_they_are(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        never_wait(log.fileno())
        assert os.get_blocking(log.fileno())


def test_what_was_closed_from_the_beginning_is_nothing_that_is_opened_later() -> None:
    code = f"""
    import os, sys
    from services.runtime.output import {fill_standard_descriptors.__name__} as fill
    fill()
    kept = os.dup({{}})
    assert os.fstat(1).st_rdev == os.fstat(2).st_rdev == os.stat(os.devnull).st_rdev
    print("to nothing", file=sys.stderr)
    print("to nothing", flush=True)
    os.write(kept, b"fine")
    """
    reader, writer = os.pipe()
    command = [sys.executable, "-c", textwrap.dedent(code.format(writer))]
    closed = ["sh", "-c", '"$@" >&- 2>&-', "sh", *command]
    assert subprocess.run(closed, pass_fds=(writer,), timeout=PATIENCE_S, check=False).returncode == 0
    os.close(writer)
    assert os.read(reader, 100) == b"fine"
    os.close(reader)


def test_a_command_whose_reader_has_left_ends_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "moonpool", "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=PATIENCE_S,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_command_whose_output_does_not_fit_on_the_disk_says_so() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "moonpool", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=PATIENCE_S,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"moonpool: can't write: No space left on device\n")
