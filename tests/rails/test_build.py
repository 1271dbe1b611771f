"""The Makefile, the pinned versions and the generated code agree with each other."""

import filecmp
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_plain_make_prints_every_target() -> None:
    targets = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[0].split()
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    printed = [line.split()[1] for line in shown.splitlines() if line.startswith("  make ")]
    assert printed == targets
    assert {"setup", "up", "test", "test-all", "check", "bench", "proto", "clean"} <= set(targets)


def made(target: str, tmp_path: Path, python: str) -> tuple[str, str]:
    """What ``make`` tells, where an environment lies half made, and how it called a Python that is this script."""
    stand_in, half_made = tmp_path / "python", tmp_path / "venv"
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{python}\n')
    stand_in.chmod(0o755)
    (half_made / "bin").mkdir(parents=True)
    (half_made / "bin" / "python").symlink_to("/bin/false")  # as Debian leaves it where its python3-venv is missing
    command = ["make", target, f"PYTHON={stand_in}", f"VENV={half_made}"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode != 0
    return ran.stdout + ran.stderr, (tmp_path / "calls").read_text()


def test_a_python_that_is_too_old_is_told_in_a_sentence(tmp_path: Path) -> None:
    older = f'shift; exec "{sys.executable}" -c "import sys; sys.version_info = (3, 10, 4); $1"'
    said, _ = made("up", tmp_path, older)
    assert "Moonpool needs Python 3.11 or newer: make PYTHON=python3.11 .." in said
    assert "Installing" not in said


def test_an_environment_without_pip_is_made_again(tmp_path: Path) -> None:
    _, calls = made("setup", tmp_path, 'test "$2" != venv')
    assert calls.splitlines()[-1] == f"-m venv --clear {tmp_path / 'venv'}"


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pinned = {
        normal(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    names = {normal(re.split(r"[\[=<>!~; ]", requirement)[0]) for requirement in wanted}
    assert names <= pinned


def test_pins_are_plain_releases() -> None:
    """A local version such as +cpu exists in one index only."""
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    protos = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "proto").rglob("*.proto"))
    plugins = [
        f"--plugin=protoc-gen-{name}={Path(sys.executable).parent / ('protoc-gen-' + name)}"
        for name in ("mypy", "mypy_grpc")
    ]
    outs = [f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "proto", *plugins, *outs, *protos]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2*"))
    _, different, missing = filecmp.cmpfiles(tmp_path, ROOT, map(str, made), shallow=False)
    assert (different, missing) == ([], []), "run make proto"
    committed = sorted(path.relative_to(ROOT) for path in (ROOT / "services/wire/pb").glob("*_pb2*"))
    assert committed == made, "what is no longer generated is to be removed"
