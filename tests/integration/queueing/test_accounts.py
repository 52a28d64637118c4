"""A handler's account at the broker: it opens its own queue, and nothing else."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from urllib.parse import quote

import pika
import pika.exceptions
import pytest
import redis

from posthouse import AccessRefused, Consumer, MailEvent, Reject, SourceLost
from posthouse.testing import make_event
from shared.queueing.output import BrokerAccount, Output
from shared.queueing.output.open import open_output
from tests.integration.queueing.conftest import (
    SIGNING_KEY,
    Consumers,
    Server,
    eventually,
    make_queue,
)
from tests.integration.queueing.test_consumer import send
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer


@pytest.fixture(params=["redis", "rabbitmq"])
def server(request: pytest.FixtureRequest) -> Server:
    if request.param == "redis":
        return request.getfixturevalue("redis_server")  # type: ignore[no-any-return]
    return request.getfixturevalue("managed_rabbit")  # type: ignore[no-any-return]


@pytest.fixture
def output(server: Server) -> Iterator[Output]:
    management = server.management_url if isinstance(server, RabbitServer) else ""
    opened = open_output(server.url, management_url=management)
    yield opened
    opened.close()


def address(server: Server, account: BrokerAccount, password: str = "") -> str:
    login = f"{account.user}:{quote(password or account.password)}@"
    if isinstance(server, RabbitServer):
        return server.url.replace("guest:guest@", login)
    return server.url.replace("redis://", f"redis://{login}")


def test_the_sdk_works_with_the_account(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    account = output.make_account(handler, "first password")
    assert account.made
    got: list[str] = []
    later = True

    def handle(event: MailEvent) -> None:
        nonlocal later
        if event.headers.subject == "never":
            raise Reject("no customer")
        if event.headers.subject == "later" and later:
            later = False
            raise ValueError("not yet")
        got.append(event.headers.subject)

    url = address(server, account)
    consumers.start(url, handler, handle, stale_after_s=1.0)
    events = [make_event(subject=one) for one in ("now", "later", "never")]
    send(output, handler, *events)
    eventually(lambda: sorted(got) == ["later", "now"] and output.inspect(handler).dead == 1)
    eventually(lambda: output.inspect(handler).drained)
    assert output.dead(handler)[0].reason == "no customer"
    # A new password ends the old one; without a handler there is no account.
    renewed = output.make_account(handler, "second password")
    with pytest.raises(AccessRefused):
        Consumer(url, handler, signing_key=SIGNING_KEY).run(lambda event: None)
    output.remove_account(handler)
    with pytest.raises(AccessRefused):
        Consumer(address(server, renewed), handler, signing_key=SIGNING_KEY).run(lambda event: None)


def test_the_account_is_refused_at_everything_else_on_redis(
    redis_server: RedisServer, handler: str
) -> None:
    output = open_output(redis_server.url)
    other = f"{handler}-x"
    for name in (handler, other):
        make_queue(output, name)
    send(output, other, make_event())
    account = output.make_account(handler, "secret")
    with pytest.raises(AccessRefused):
        Consumer(address(redis_server, account), other, signing_key=SIGNING_KEY).run(
            lambda event: None
        )
    own, foreign = f"posthouse:handler:{handler}", f"posthouse:handler:{other}"
    with redis.Redis.from_url(address(redis_server, account), protocol=2) as client:
        for command in (
            ("XREADGROUP", "GROUP", "posthouse", "x", "STREAMS", foreign, ">"),
            ("XRANGE", foreign, "-", "+"),
            ("XACK", foreign, "posthouse", "1-1"),
            ("XADD", own, "*", "event", "{}"),
            ("XADD", foreign, "*", "event", "{}"),
            ("XADD", f"{foreign}:dead", "*", "event", "{}"),
            ("XRANGE", f"{own}:dead", "-", "+"),
            ("XTRIM", own, "MAXLEN", "0"),
            ("XGROUP", "DESTROY", own, "posthouse"),
            ("DEL", own),
            ("GET", f"{own}:generation"),
            ("KEYS", "*"),
            ("SCAN", "0"),
            ("PUBLISH", "x", "y"),
            ("EVAL", "return 1", "0"),
            ("CONFIG", "GET", "*"),
            ("ACL", "LIST"),
            ("FLUSHALL",),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)
    assert output.inspect(other).backlog == 1
    output.remove_account(handler)
    output.close()


def test_the_account_is_refused_at_everything_else_on_rabbitmq(
    managed_rabbit: RabbitServer, handler: str
) -> None:
    output = open_output(managed_rabbit.url, management_url=managed_rabbit.management_url)
    other = f"{handler}-x"
    for name in (handler, other):
        make_queue(output, name)
    send(output, other, make_event())
    account = output.make_account(handler, "secret")
    with pytest.raises((AccessRefused, SourceLost), match="refused"):
        Consumer(address(managed_rabbit, account), other, signing_key=SIGNING_KEY)._source.receive(
            1, 1
        )
    own, foreign = f"posthouse.handler.{handler}", f"posthouse.handler.{other}"
    url = address(managed_rabbit, account)
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:

        def refused(ask: object) -> None:
            channel = connection.channel()
            channel.confirm_delivery()
            with pytest.raises(pika.exceptions.ChannelClosedByBroker) as raised:
                ask(channel)  # type: ignore[operator]
            assert raised.value.reply_code == 403

        refused(lambda c: c.basic_get(foreign))
        refused(lambda c: c.basic_get(f"{own}.dead"))
        refused(lambda c: c.queue_purge(foreign))
        refused(lambda c: c.queue_delete(own))
        refused(lambda c: c.queue_declare("mine"))
        refused(lambda c: c.queue_bind(own, "posthouse.mail", f"handler.{other}"))
        for exchange, key in (
            ("posthouse.mail", f"handler.{handler}"),
            ("posthouse.mail", f"handler.{other}"),
            ("", own),
            ("", foreign),
            (f"{foreign}.dead", ""),
        ):
            refused(lambda c, e=exchange, k=key: c.basic_publish(e, k, b"{}"))
    assert output.inspect(other).backlog == 1
    output.remove_account(handler)
    output.close()


def test_without_rights_of_its_own_posthouse_shows_the_commands_for_redis(
    redis_server: RedisServer, handler: str, consumers: Consumers
) -> None:
    with redis.Redis.from_url(redis_server.url) as admin:
        admin.execute_command("ACL", "SETUSER", handler, "reset", "on", ">p", "~*", "+@all", "-acl")
        output = open_output(redis_server.url.replace("redis://", f"redis://{handler}:p@"))
        make_queue(output, handler)
        account = output.make_account(handler, "secret")
        assert not account.made
        assert "run the commands" in account.note
        command, *more = shlex.split(account.commands[0])
        assert command == "redis-cli"
        done = subprocess.run(
            [command, "-u", redis_server.url, *more], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "OK"
        got: list[str] = []
        consumers.start(address(redis_server, account), handler, lambda event: got.append(event.id))
        send(output, handler, make_event())
        eventually(lambda: got)
        admin.execute_command("ACL", "DELUSER", handler, account.user)
        output.close()


def test_without_a_management_address_posthouse_shows_the_commands_for_rabbitmq(
    rabbit_server: RabbitServer, handler: str, consumers: Consumers
) -> None:
    output = open_output(rabbit_server.url)
    make_queue(output, handler)
    account = output.make_account(handler, "secret")
    assert not account.made
    for line in account.commands:
        command, *arguments = shlex.split(line)
        assert command == "rabbitmqctl"
        rabbit_server.control(*arguments)
    got: list[str] = []
    consumers.start(address(rabbit_server, account), handler, lambda event: got.append(event.id))
    send(output, handler, make_event())
    eventually(lambda: got)
    output.close()
