"""A planted password is found in no log, no queue, no event and no table."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from tests.rig.mails import mail
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

CANARY = "canary-7f3b1e-passphrase"


def everything_in_redis(url: str) -> Iterator[bytes]:
    client = redis.Redis.from_url(url)
    for key in client.scan_iter("*"):
        yield key
        yield client.dump(key) or b""
        match client.type(key):
            case b"stream":
                yield repr(client.xrange(key)).encode()
            case b"hash":
                yield repr(client.hgetall(key)).encode()
            case b"list":
                yield repr(client.lrange(key, 0, -1)).encode()


def everything_in_postgres(stack: Stack) -> Iterator[tuple[str, str]]:
    tables = stack.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for (table,) in tables:
        for (row,) in stack.query(f'SELECT t::text FROM "{table}" AS t'):
            yield table, row


@pytest.mark.promise("I7")
def test_a_canary_is_found_nowhere(
    redis_url: str,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    with Dovecot(password=CANARY) as server:
        server.deliver(mail_user, [mail(1, 2000)], password=CANARY)
        stack = build_stack(redis_url, log_level="DEBUG")
        stack.add_handler()
        stack.start("scheduler", "fetcher", "decryptor")
        fields = {
            "mode": "imap",
            "host": "127.0.0.1",
            "port": server.imap_port,
            "security": "none",
        }
        stack.add_connection(CANARY, name="right", username=mail_user, **fields)
        stack.add_connection(CANARY + "-wrong", name="wrong", username="somebody", **fields)
        stack.wait_settled(1)
        stack.wait(
            lambda: stack.query("SELECT 1 FROM connection_state WHERE health = 'failing'") != [],
            "the wrong password is refused",
        )
        stack.stop()
    secret = CANARY.encode()
    for log in stack.folder.glob("*.log"):
        assert secret not in log.read_bytes(), log
        assert b"level" in log.read_bytes()
    for value in everything_in_redis(redis_url):
        assert secret not in value
    for table, row in everything_in_postgres(stack):
        assert CANARY not in row, table
        assert CANARY.encode().hex() not in row, table
