"""A RabbitMQ node of its own on free loopback ports, with its own epmd and data folder.

It takes about seven seconds to start, so one serves the whole session; tests keep to queue names
of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import pika
import pika.exceptions
import pytest

from tests.servers.processes import ServerProcess, free_port


def _home() -> Path:
    """Where the distribution put RabbitMQ; its own wrapper would insist on a system user."""
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
    if not found:
        raise RuntimeError("RabbitMQ is not installed: run tests/servers/install.sh")
    return found[-1]


class RabbitServer:
    """Start, stop, kill and wipe a RabbitMQ node; its ports stay the same over restarts.

    `plugins` such as `rabbitmq_management` are enabled at start; `management_url` then answers.
    `options` are keys and values of its application, such as `consumer_timeout 3000`.
    `name` and `first` make it a node of a cluster (`tests.servers.rabbitmq_cluster`): it shares the
    epmd and the Erlang cookie of the first node and joins it at its first start.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        plugins: Sequence[str] = (),
        options: Sequence[str] = (),
        name: str = "posthouse",
        first: RabbitServer | None = None,
    ) -> None:
        self._own_folder = folder is None
        self.folder = (
            Path(tempfile.mkdtemp(prefix="posthouse-rabbit-")) if folder is None else folder
        )
        self.port = free_port()
        self.management_port = free_port()
        self.node = f"{name}@localhost"
        self._first = first
        self._epmd_port: int = free_port() if first is None else first._epmd_port
        self._dist_port = free_port()
        self._plugins = tuple(plugins)
        self._options = tuple(options)
        self._epmd: ServerProcess | None = None
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    @property
    def management_url(self) -> str:
        assert "rabbitmq_management" in self._plugins
        return f"http://guest:guest@127.0.0.1:{self.management_port}"

    @property
    def process(self) -> ServerProcess:
        assert self._process is not None, "the server is not started"
        return self._process

    def start(self) -> None:
        """Returns when the node takes AMQP connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        (self.folder / "plugins").write_text(f"[{','.join(self._plugins)}].")
        # Left alone, the quorum queues' common log grows to half a gigabyte.
        settings = f"raft.wal_max_size_bytes = {64 << 20}\n"
        if "rabbitmq_management" in self._plugins:
            settings += "management.tcp.ip = 127.0.0.1\n"
            settings += f"management.tcp.port = {self.management_port}\n"
        if self._first is not None:
            settings += "cluster_formation.peer_discovery_backend = classic_config\n"
            for number, node in enumerate((self._first.node, self.node), 1):
                settings += f"cluster_formation.classic_config.nodes.{number} = {node}\n"
            cookie = self.folder / ".erlang.cookie"
            if not cookie.exists():
                shutil.copy2(self._first.folder / ".erlang.cookie", cookie)
        (self.folder / "rabbitmq.conf").write_text(settings)
        if self._first is None and (self._epmd is None or not self._epmd.running):
            # Started by RabbitMQ itself it would outlive it.
            self._epmd = ServerProcess(
                ["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)],
                log=self.folder / "epmd.log",
            )
        self._process = ServerProcess(
            [str(_home() / "sbin" / "rabbitmq-server")],
            log=self.folder / "rabbitmq.log",
            env=self._environment(),
            folder=self.folder,
        )
        self._process.wait_until(self._answers, seconds=120)

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL. What was confirmed to a publisher on a durable queue must survive it."""
        self.process.kill()

    def restart(self) -> None:
        """A clean restart with the data kept (about five seconds)."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Killed, its data lost, an empty one in its place."""
        self.kill()
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        self.start()

    def control(self, *arguments: str) -> str:
        """`rabbitmqctl …` against this node; its output. A call takes a second or two."""
        return subprocess.run(
            [str(_home() / "sbin" / "rabbitmqctl"), "--quiet", *arguments],
            env=self._environment(),
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout

    def close(self) -> None:
        """Ends the node and its epmd; removes its folder where that was made here."""
        for process in (self._process, self._epmd):
            if process is not None:
                process.kill()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> RabbitServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _environment(self) -> dict[str, str]:
        folder = self.folder
        return {
            "PATH": f"/usr/lib/erlang/bin:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "LANG": "C.UTF-8",
            "HOME": str(folder),  # the Erlang cookie lies here
            # Not under systemd, but this makes the script become the node instead of its parent.
            "RUNNING_UNDER_SYSTEMD": "1",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_START_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}"
            + "".join(f" -rabbit {option}" for option in self._options),
        }

    def _answers(self) -> bool:
        try:
            pika.BlockingConnection(pika.URLParameters(self.url)).close()
        except pika.exceptions.AMQPError:
            return False
        return True

    def takes_queues(self) -> bool:
        """Whether a quorum queue can be made. After a full disk none can until a restart."""
        try:
            with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
                channel = connection.channel()
                channel.queue_declare("probe", durable=True, arguments={"x-queue-type": "quorum"})
                channel.queue_delete("probe")
        except pika.exceptions.AMQPError:
            return False
        return True

    def last_errors(self) -> str:
        """The end of what the node's log has of errors."""
        log = self.folder / "logs" / f"{self.node}.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join([line for line in lines if "[error]" in line][-40:])


_SHARED: list[RabbitServer] = []


@pytest.fixture(scope="session")
def rabbit_server() -> Iterator[RabbitServer]:
    """One for the whole session: tests keep to names of their own, or start their own server."""
    with RabbitServer() as server:
        _SHARED.append(server)
        yield server
        _SHARED.remove(server)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A node that broke under a test is told, and does not fail the tests after it."""
    report = yield
    for server in _SHARED if report.failed else ():
        if not server.takes_queues():
            report.sections.append(("RabbitMQ is broken", server.last_errors()))
            server.wipe()
    return report
