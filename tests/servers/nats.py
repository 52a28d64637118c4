"""A nats-server of its own on a free loopback port, with JetStream on disk in a folder."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from tests.servers.processes import ServerProcess, accepts, free_port


@dataclass(frozen=True, slots=True)
class Stored:
    """A message of a stream."""

    subject: str
    headers: dict[str, str]
    data: bytes


class NatsServer:
    """Start, stop and kill a NATS server; the port stays the same over restarts.

    `config`: what its file says beside listener and JetStream (authorization, tls, max_payload).
    """

    def __init__(
        self, config: str = "", *, login: dict[str, Any] | None = None, jetstream: bool = True
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="posthouse-nats-"))
        self.port = free_port()
        self._login = login or {}
        self._file = self.folder / "nats.conf"
        store = f'jetstream {{ store_dir: "{self.folder}/store" }}' if jetstream else ""
        self._file.write_text(f"listen: 127.0.0.1:{self.port}\n{store}\n{config}\n")
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def process(self) -> ServerProcess:
        assert self._process is not None, "the server is not started"
        return self._process

    def start(self) -> None:
        self._process = ServerProcess(
            [_command(), "-c", str(self._file)], log=self.folder / "nats.log"
        )
        self._process.wait_until(lambda: accepts(self.port))

    def kill(self) -> None:
        self.process.kill()

    def wipe(self) -> None:
        """It loses its streams, as a server that is replaced by a new one has."""
        self.kill()
        shutil.rmtree(self.folder / "store", ignore_errors=True)
        self.start()

    def add_stream(self, name: str, *subjects: str, **fields: Any) -> None:
        async def add(client: Client) -> None:
            config = StreamConfig(name=name, subjects=list(subjects), **fields)
            await client.jetstream().add_stream(config)

        self._do(add)

    def messages(self, stream: str, first: int = 1) -> list[Stored]:
        """Those of a stream, in its order, from the `first` on."""
        found: list[Stored] = []

        async def read(client: Client) -> None:
            js = client.jetstream()
            state = (await js.stream_info(stream)).state
            for sequence in range(max(first, state.first_seq), state.last_seq + 1):
                one = await js.get_msg(stream, sequence)
                found.append(Stored(one.subject or "", dict(one.headers or {}), one.data or b""))

        self._do(read)
        return found

    def _do(self, work: Any) -> None:
        async def run() -> None:
            client = await nats.connect(
                self.url, allow_reconnect=False, error_cb=_untold, **self._login
            )
            try:
                await work(client)
            finally:
                await client.close()

        # Not here: a browser test before may have left its loop running in this thread.
        with ThreadPoolExecutor(1) as apart:
            apart.submit(asyncio.run, run()).result()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> NatsServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _untold(_error: Exception) -> None:
    """Who asks gets it as an exception; nats-py would log it with its stack as well."""


def _command() -> str:
    found = shutil.which("nats-server") or "/usr/sbin/nats-server"
    assert Path(found).exists()
    return found


@pytest.fixture
def nats_server() -> Iterator[NatsServer]:
    """With a stream `MAIL` of the subjects `mail.>`."""
    with NatsServer() as server:
        server.add_stream("MAIL", "mail.>")
        yield server
