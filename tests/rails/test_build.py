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
