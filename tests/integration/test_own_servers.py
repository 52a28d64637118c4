"""Postgres and broker of `posthouse up`, alone: made, started, killed, and what they then hold."""

from __future__ import annotations

import io
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
import rich.console
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from cli.local import postgres as own
from cli.local.broker import OwnBroker
from cli.local.console import Console
from cli.local.data_folder import DataFolder
from cli.local.postgres import OwnPostgres
from cli.local.supervisor import Child, Program, Supervisor
from shared.errors import PosthouseError, TryAgain
from tests.servers.processes import private_folder, wait_until

_AS_NOBODY = ((), {"user": 65534, "group": 65534, "extra_groups": []})


@pytest.fixture
def folder() -> Iterator[DataFolder]:
    root = private_folder("own")
    root.chmod(0o711)
    with DataFolder(root / "data") as opened:
        yield opened
    subprocess.run(["rm", "-rf", root], check=True)


@pytest.fixture
def stack(folder: DataFolder) -> Iterator[Supervisor]:
    console = Console()
    console._rich = rich.console.Console(file=io.StringIO())
    made = Supervisor(folder.root / "logs", folder.root / "run", console)
    yield made
    made.stop()


def _started(stack: Supervisor, program: Program, url: str) -> Child:
    child = stack.start(program)
    wait_until(lambda: _answers(url), "Postgres", log=child.log)
    return child


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user has one way to run it")
def test_as_root_both_ways_to_run_postgres_can_take_turns(
    folder: DataFolder, stack: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a namespace first, as the real nobody next, as in a container that forbids namespaces."""
    for turn, way in enumerate([own._unprivileged(), _AS_NOBODY, own._unprivileged()]):
        monkeypatch.setattr(own, "_unprivileged", lambda way=way: way)
        server = OwnPostgres(folder)
        server.prepare()
        child = _started(stack, server.program(), server.url)
        status = Path(f"/proc/{child._process.pid}/status").read_text()  # type: ignore[union-attr]
        effective = next(line for line in status.splitlines() if line.startswith("CapEff"))
        assert (
            int(effective.split()[1], 16) == 0
        )  # whoever it looks like, it can do nothing special
        with psycopg.connect(server.url) as session:
            session.execute("CREATE TABLE IF NOT EXISTS turn (n int)")
            session.execute("INSERT INTO turn VALUES (%s)", (turn,))
            assert session.execute("SELECT count(*) FROM turn").fetchone() == (turn + 1,)
        stack.stop([child])


def test_postgres_survives_a_kill_and_keeps_its_password(
    folder: DataFolder, stack: Supervisor
) -> None:
    server = OwnPostgres(folder)
    server.prepare()
    child = _started(stack, server.program(), server.url)
    with psycopg.connect(server.url) as session:
        session.execute("CREATE TABLE kept AS SELECT 1 AS n")
        shown: dict[str, str] = dict(
            session.execute("SELECT name, setting FROM pg_settings").fetchall()
        )
    assert shown["fsync"] == shown["synchronous_commit"] == "on"
    assert shown["listen_addresses"] == "127.0.0.1" and shown["unix_socket_directories"] == ""
    child.signal(signal.SIGKILL)
    wait_until(lambda: not child.is_running, "the end")
    again = OwnPostgres(folder)
    again.prepare()
    wait_until(lambda: (stack.supervise(), _answers(server.url))[1], "Postgres", log=child.log)
    with psycopg.connect(again.url) as session:
        assert session.execute("SELECT n FROM kept").fetchone() == (1,)
    wrong = server.url.replace(folder.password("postgres_password"), "guess")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(wrong)


def test_a_thread_that_a_library_starts_in_every_child_does_not_keep_it_from_starting(
    folder: DataFolder, stack: Supervisor
) -> None:
    """OpenTelemetry does so once a tracer exists, and a namespace is made by one thread alone."""
    exporter = BatchSpanProcessor(ConsoleSpanExporter(out=io.StringIO()))
    try:
        own._unprivileged.cache_clear()
        server = OwnPostgres(folder)
        server.prepare()
        _started(stack, server.program(), server.url)
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]


def test_a_half_made_cluster_is_made_anew(folder: DataFolder, stack: Supervisor) -> None:
    (folder.root / "postgres" / "data").mkdir(parents=True)
    (folder.root / "postgres" / "data" / "PG_VERSION").write_text("18\n")
    server = OwnPostgres(folder)
    server.prepare()
    _started(stack, server.program(), server.url)


def test_a_cluster_that_cannot_be_made_is_told_in_words(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "initdb").write_text("#!/bin/sh\necho the disk is on fire >&2; exit 1\n")
    (tmp_path / "initdb").chmod(0o755)
    tmp_path.chmod(0o755)
    monkeypatch.setattr(own, "_binaries", lambda: tmp_path)
    monkeypatch.setattr(own, "_unprivileged", lambda: ((), {}))
    with pytest.raises(PosthouseError, match="the disk is on fire") as caught:
        OwnPostgres(folder).prepare()
    assert "POSTHOUSE_DATABASE_URL" in caught.value.hint
    (tmp_path / "initdb").unlink()
    with pytest.raises(PosthouseError, match="cannot be started"):
        OwnPostgres(folder).prepare()


def test_the_broker_asks_for_its_password_and_keeps_what_it_has(
    folder: DataFolder, stack: Supervisor
) -> None:
    broker = OwnBroker(folder)
    broker.prepare()
    with pytest.raises(TryAgain):
        broker.check()
    child = stack.start(broker.program())
    stack.wait_ready([child], 60, lambda: False)
    with redis.Redis.from_url(broker.url) as client:
        client.set("kept", 1)
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("rdbcompression") == {"rdbcompression": "no"}
        assert int(client.config_get("auto-aof-rewrite-min-size").popitem()[1]) == 256 << 20
    with (
        redis.Redis(port=broker.port) as stranger,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        stranger.get("kept")
    stack.stop([child])
    child = stack.start(broker.program())
    stack.wait_ready([child], 60, lambda: False)
    with redis.Redis.from_url(broker.url) as client:
        assert client.get("kept") == b"1"
    arguments = Path(f"/proc/{child._process.pid}/cmdline").read_bytes()  # type: ignore[union-attr]
    assert folder.password("broker_password").encode() not in arguments
