"""What may stand in front of Postgres, and what the broker may not be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from shared.storage.pool import Database, DatabaseUnavailable
from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.pgbouncer import pgbouncer
from tests.servers.redis import RedisServer


def test_every_mail_comes_once_through_a_pooler_that_works_by_transaction(
    dovecot: Dovecot,
    mail_user: str,
    redis_url: str,
    database_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    """Without prepared statements; the migration went past the pooler."""
    mails = [mail(number, 3000, seed=5) for number in range(300)]
    dovecot.deliver(mail_user, mails)
    with pgbouncer(database_url) as pooled:
        stack = build_stack(redis_url, database_url=pooled, prepared_statements="false")
        stack.add_handler()
        stack.start("scheduler", "scheduler", "fetcher", "fetcher", "decryptor", "decryptor")
        stack.watch(dovecot, mail_user)
        stack.wait_settled(len(mails))
        stack.stop()
        logs = "".join(path.read_text() for path in stack.store.parent.glob("*.log"))
    assert "prepared statement" not in logs
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(mails)


def test_prepared_statements_are_what_such_a_pooler_does_not_know(database_url: str) -> None:
    """Debian's pgbouncer is older than 1.21: the setting is needed there, and is enough."""

    def ask_crosswise(prepared: bool) -> None:
        """Another one takes the server on which the statement was prepared."""
        with (
            pgbouncer(database_url) as pooled,
            Database(pooled, size=1, prepared=prepared) as one,
            psycopg.connect(pooled) as other,
        ):
            for number in range(10):
                if number == 5:
                    other.execute("SELECT 1", prepare=False)
                with one.transaction() as session:
                    session.execute("SELECT %s::int", (number,))

    ask_crosswise(prepared=False)
    with pytest.raises((psycopg.Error, DatabaseUnavailable), match="prepared statement"):
        ask_crosswise(prepared=True)


@pytest.mark.parametrize("database", [0, 3])
@pytest.mark.parametrize("name", ["BROKER", "OUTPUT"])
def test_a_redis_cluster_is_refused_at_start_with_the_reason(
    name: str, database: int, redis_server: RedisServer, database_url: str, tmp_path: Path
) -> None:
    with RedisServer(options=("--cluster-enabled", "yes")) as cluster:
        environment = {
            "PATH": "/usr/bin:/bin",
            "POSTHOUSE_DATABASE_URL": database_url,
            "POSTHOUSE_STORE_URL": f"file://{tmp_path}/store",
            "POSTHOUSE_SECRET_KEYS": "k1:" + "A" * 43 + "=",
            "POSTHOUSE_BROKER_URL": redis_server.url,
            f"POSTHOUSE_{name}_URL": cluster.url.rpartition("/")[0] + f"/{database}",
        }
        done = subprocess.run(
            [sys.executable, "-m", "cli.run_service", "scheduler"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert "Redis Cluster" in done.stderr
    assert "RabbitMQ" in done.stderr
