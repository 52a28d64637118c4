"""A Redis server of its own on a free loopback port, with its append-only file in a folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis

from tests.servers.processes import ServerProcess, free_port


class RedisServer:
    """Start, stop, kill and wipe a Redis server; the port stays the same over restarts.

    >>> with RedisServer() as server:
    ...     redis.Redis.from_url(server.url).ping()
    True
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int | None = None,
        password: str = "",
        options: Sequence[str] = (),
    ) -> None:
        self._own_folder = folder is None
        self.folder = (
            Path(tempfile.mkdtemp(prefix="posthouse-redis-")) if folder is None else folder
        )
        self.port = port or free_port()
        self._password = password
        self._options = tuple(options)
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        secret = f":{self._password}@" if self._password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    @property
    def process(self) -> ServerProcess:
        assert self._process is not None, "the server is not started"
        return self._process

    def start(self) -> None:
        """Returns when the server answers and has loaded its data."""
        self.folder.mkdir(parents=True, exist_ok=True)
        argv = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        argv += ["--dir", str(self.folder), "--save", "", "--appendonly", "yes"]
        argv += ["--appendfsync", "everysec", *self._options]
        if self._password:
            argv += ["--requirepass", self._password]
        self._process = ServerProcess(argv, log=self.folder / "redis.log")
        self._process.wait_until(self._answers)

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL. What was appended in the last second may be gone."""
        self.process.kill()

    def restart(self) -> None:
        """A clean restart with the data kept."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Everything in it is gone at once; connections stay (FLUSHALL)."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def replace(self) -> None:
        """Killed, its data lost, an empty one in its place."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.start()

    def close(self) -> None:
        """Stops it and removes its folder where that was made here."""
        if self._process is not None:
            self._process.kill()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One for the whole session: tests keep to names of their own, or start their own server."""
    with RedisServer() as server:
        yield server
