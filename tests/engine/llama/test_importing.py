"""What importing the engine costs, and what it settles before torch is there."""

import os
import subprocess
import sys


def run(code: str, **environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


def test_the_package_and_the_conversion_of_gguf_need_no_torch() -> None:
    assert run("import sys, engine.llama, engine.llama.gguf; print('torch' in sys.modules)") == "False"


def test_threads_sleep_at_barriers_from_before_torch_is_imported() -> None:
    code = (
        "import os, sys; from engine.llama import sleep_at_barriers; sleep_at_barriers();"
        "print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    assert run(code) == "passive False"
    assert run(code, OMP_WAIT_POLICY="active") == "active False"
