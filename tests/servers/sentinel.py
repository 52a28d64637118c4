"""A primary, its replica, and three Sentinels that choose the other one when it is gone."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import redis

from tests.servers.certificates import Authority
from tests.servers.processes import ServerProcess, free_port, wait_until
from tests.servers.redis import RedisServer

SERVICE = "mail"
PASSWORD = "of-redis"
OF_SENTINEL = "of-sentinel"


class SentinelGroup:
    """Redis under Sentinels, each with a password of its own; over TLS alone with an `authority`.

    >>> with SentinelGroup() as group:
    ...     group.kill_primary()
    """

    def __init__(self, *, authority: Authority | None = None) -> None:
        self._authority = authority
        self._resources = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="posthouse-sentinel-"))
        self.ports = [free_port() for _ in range(3)]
        tls = ""
        if authority:
            server = authority.issue("127.0.0.1", "localhost")
            tls = (
                f"tls-cert-file {server.certificate}\ntls-key-file {server.key}\n"
                f"tls-ca-cert-file {authority.certificate}\ntls-auth-clients no\n"
                "tls-replication yes\n"
            )
        self._tls = tls
        self.servers = [self._server() for _ in range(2)]

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        query = f"?sentinel_password={OF_SENTINEL}"
        kind = "redis"
        if self._authority:
            kind, query = "rediss", f"{query}&ssl_ca_certs={self._authority.certificate}"
        return f"{kind}+sentinel://:{PASSWORD}@{places}/{SERVICE}/0{query}"

    def start(self) -> None:
        primary, replica = self.servers
        for server in self.servers:
            self._resources.enter_context(server)
        with self.client(replica.port) as client:
            client.replicaof("127.0.0.1", str(primary.port))
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "replica")
        for port in self.ports:
            self._start_sentinel(port, primary.port)
        # A failover needs Sentinels that know each other, and the replica.
        for port in self.ports:
            with self.client(port, OF_SENTINEL) as client:
                wait_until(partial(_is_settled, client), "Sentinels know each other")

    def kill_primary(self) -> None:
        """SIGKILL; the Sentinels take some seconds to choose the replica."""
        self.servers[0].kill()

    def fail_over(self) -> None:
        """The replica becomes the primary, the primary its replica; returns when it is so."""
        with self.client(self.ports[0], OF_SENTINEL) as client:
            client.execute_command("SENTINEL", "FAILOVER", SERVICE)
        for server, role in zip(self.servers, ("slave", "master"), strict=True):
            with self.client(server.port) as client:
                wait_until(partial(_has_role, client, role), "the failover")

    def client(self, port: int, password: str = PASSWORD) -> Any:
        way: dict[str, Any] = {}
        if self._authority:
            way = {"ssl": True, "ssl_ca_certs": str(self._authority.certificate)}
        return redis.Redis("127.0.0.1", port, password=password, decode_responses=True, **way)

    def close(self) -> None:
        self._resources.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> SentinelGroup:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _server(self) -> _Server:
        port = free_port()
        folder = self.folder / f"redis-{port}"
        folder.mkdir()
        config = folder / "redis.conf"
        config.write_text(f"{self._tls}requirepass {PASSWORD}\nmasterauth {PASSWORD}\n")
        return _Server(self, folder, port, config)

    def _start_sentinel(self, port: int, primary: int) -> None:
        folder = self.folder / f"sentinel-{port}"
        folder.mkdir()
        config = folder / "sentinel.conf"
        listening = f"port 0\ntls-port {port}\n" if self._authority else f"port {port}\n"
        config.write_text(
            f"{listening}{self._tls}bind 127.0.0.1\ndir {folder}\nrequirepass {OF_SENTINEL}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n"
            f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
            f"sentinel sentinel-pass {OF_SENTINEL}\n"
            f"sentinel down-after-milliseconds {SERVICE} 1000\n"
            f"sentinel failover-timeout {SERVICE} 5000\n"
        )
        process = ServerProcess(
            ["redis-server", str(config), "--sentinel"], log=folder / "sentinel.log"
        )
        self._resources.callback(process.kill)


class _Server(RedisServer):
    """One of the two, with the group's passwords and certificates."""

    def __init__(self, group: SentinelGroup, folder: Path, port: int, config: Path) -> None:
        super().__init__(folder, port=port)
        self._group, self._config = group, config

    def start(self) -> None:
        listening = ["--port", str(self.port)]
        if self._group._authority:
            listening = ["--port", "0", "--tls-port", str(self.port)]
        self._process = ServerProcess(
            [
                *("redis-server", str(self._config), *listening, "--bind", "127.0.0.1"),
                *("--dir", str(self.folder), "--save", "", "--appendonly", "yes"),
                *("--repl-diskless-sync-delay", "0"),
            ],
            log=self.folder / "redis.log",
        )
        self._process.wait_until(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), self._group.client(self.port) as client:
            return bool(client.ping())
        return False


def _has_role(client: Any, role: str) -> bool:
    return bool(client.info("replication")["role"] == role)


def _is_settled(client: Any) -> bool:
    try:
        found = client.execute_command("SENTINEL", "MASTER", SERVICE)
    except redis.RedisError:
        return False
    told = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
    return int(told["num-other-sentinels"]) == 2 and int(told["num-slaves"]) == 1
