"""A real pgbouncer before a database, in transaction mode: each transaction gets any connection."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.servers.processes import ServerProcess, accepts, free_port, private_folder


@contextmanager
def pgbouncer(database_url: str, *, connections: int = 5) -> Iterator[str]:
    """The address through it; it has so many connections to Postgres and no more."""
    parts = urlsplit(database_url)
    folder, port = private_folder("pgbouncer", owner="nobody"), free_port()
    (folder / "users").write_text(f'"{parts.username}" "{parts.password}"\n')
    database = f"host={parts.hostname} port={parts.port} user={parts.username}"
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "plain",
        "auth_file": folder / "users",
        "pool_mode": "transaction",
        "default_pool_size": connections,
        "max_client_conn": 400,
        "server_round_robin": 1,
    }
    lines = [f"{name} = {value}" for name, value in settings.items()]
    config = folder / "pgbouncer.ini"
    text = f"[databases]\n* = {database} password={parts.password}\n[pgbouncer]\n"
    config.write_text(text + "\n".join(lines) + "\n")
    for path in (folder / "users", config):
        path.chmod(0o644)
    argv = ["/usr/sbin/pgbouncer", str(config)]
    if os.getuid() == 0:
        argv = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *argv]
    process = ServerProcess(argv, log=Path(folder) / "pgbouncer.log")
    process.wait_until(lambda: accepts(port))
    try:
        account = f"{parts.username}:{parts.password}"
        yield f"postgresql://{account}@127.0.0.1:{port}{parts.path}"
    finally:
        process.kill()
