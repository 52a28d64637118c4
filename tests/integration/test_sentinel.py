"""Redis under Sentinels: what the primary's death costs, and over TLS."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from posthouse import Consumer, MailEvent
from posthouse.broker_address import split_sentinels
from shared.errors import InvalidInput, TryAgain
from shared.queueing.broker import build_broker, enqueue
from shared.queueing.connect import BrokerDown, BrokerRefused, place
from shared.queueing.output import Publication
from shared.queueing.output.open import open_output
from tests.rig.mails import digests, mail
from tests.rig.stack import SIGNING_KEY, Stack
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.processes import wait_until
from tests.servers.sentinel import OF_SENTINEL, PASSWORD, SentinelGroup
from tests.servers.webhooks import Receiver

_FIRST, _ALL = 40, 240


@pytest.fixture
def group() -> Iterator[SentinelGroup]:
    with SentinelGroup() as made:
        yield made


@pytest.mark.promise("I2")
def test_no_mail_is_lost_when_the_primary_dies_and_a_replica_takes_over(
    group: SentinelGroup,
    dovecot: Dovecot,
    mail_user: str,
    receiver: Receiver,
    build_stack: Callable[..., Stack],
) -> None:
    """Jobs, publishing, a program with the SDK and a forwarded handler, all by one address."""
    mails = [mail(number, 2000, seed=8) for number in range(_ALL)]
    stack = build_stack(group.url)
    stack.add_handler("program")
    stack.forward(stack.add_handler("endpoint"), receiver.url)
    taken: Counter[str] = Counter()
    digest_of: dict[str, str] = {}

    def take(event: MailEvent) -> None:
        digest_of[event.id] = event.sha256
        taken[event.id] += 1

    consumer = Consumer(group.url, "program", signing_key=SIGNING_KEY, retry_delay_s=0.2)
    consuming = threading.Thread(target=consumer.run, args=(take,))
    consuming.start()
    try:
        stack.start("scheduler", "fetcher", "fetcher", "decryptor", "decryptor", "forwarder")
        connection = stack.watch(dovecot, mail_user)
        dovecot.deliver(mail_user, mails[:_FIRST])
        stack.fetch_now(connection)
        stack.wait(lambda: len(taken) >= _FIRST, "mails arrive")

        def come(mails_: list[bytes]) -> None:
            dovecot.deliver(mail_user, mails_)
            stack.fetch_now(connection)

        come(mails[_FIRST : _ALL // 2])
        group.kill_primary()
        come(mails[_ALL // 2 :])

        def all_came() -> bool:
            stack.hurry()
            return len(taken) >= _ALL and len(_ids(receiver)) >= _ALL

        stack.wait(all_came, "every mail comes after the failover", 150)
        stack.wait_settled(_ALL)
    finally:
        consumer.stop()
        consuming.join(40)
    assert sorted(digest_of.values()) == digests(mails)
    assert _ids(receiver) == set(taken)


def _ids(receiver: Receiver) -> set[str]:
    return {request.json["id"] for request in receiver.received}


def test_a_wrong_password_is_said_without_any(group: SentinelGroup) -> None:
    cases = [
        (group.url.replace(f":{PASSWORD}@", ":wrong@"), BrokerRefused),
        (group.url.replace(OF_SENTINEL, "wrong"), BrokerRefused),
        (group.url.replace("/mail/", "/other/"), BrokerDown),
    ]
    for url, kind in cases:
        broker, output = build_broker(url), open_output(url)
        with pytest.raises(kind) as jobs:
            broker.check()
        with pytest.raises(kind) as queues:
            output.check()
        for told in (str(jobs.value), str(queues.value)):
            assert f"127.0.0.1:{group.ports[0]}" in told
            assert PASSWORD not in told
            assert OF_SENTINEL not in told
            assert "wrong" not in told
            assert len(told) < 300
        broker.close()
        output.close()


def test_over_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    with SentinelGroup(authority=Authority(tmp_path)) as group:
        broker = build_broker(group.url)
        broker.check()
        broker.close()
        untrusted = group.url.partition("&ssl_ca_certs")[0]
        distrusting = build_broker(untrusted)
        with pytest.raises(BrokerDown, match="CERTIFICATE_VERIFY_FAILED"):
            distrusting.check()
        distrusting.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://a:1,b:2",
        "redis+sentinel:///mail",
        "redis+sentinel://a,/mail",
        "redis+sentinel://a/mail/x",
    ],
)
def test_an_address_that_lacks_something_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="Sentinels"):
        split_sentinels(url)
    with pytest.raises(InvalidInput):
        build_broker(url)


def test_an_address_of_sentinels_is_shown_without_its_passwords() -> None:
    url = "redis+sentinel://user:secret@one,two:7,[::1]:8/mail%2F1/3?sentinel_password=hidden"
    found = split_sentinels(url)
    assert found is not None
    assert found.hosts == (("one", 26379), ("two", 7), ("::1", 8))
    assert (found.service, found.database) == ("mail/1", 3)
    assert place(url) == "Redis mail/1 of the Sentinels at one:26379, two:7, ::1:8"


def test_a_failover_that_somebody_asks_for_cuts_nothing_and_moves_all(
    group: SentinelGroup,
) -> None:
    """The old primary lives on as a replica that refuses to be written to."""
    output, broker = open_output(group.url), build_broker(group.url, queues=["work"])
    output.ensure("archive", "g")
    group.fail_over()

    def published() -> bool:
        publication = Publication("archive", b"{}", "id", "")
        return isinstance(output.publish([publication])[0], str)

    def enqueued() -> bool:
        try:
            enqueue(broker, "work", "work", ["job"])
        except TryAgain:
            return False
        return True

    wait_until(published, "publishing goes on")
    wait_until(enqueued, "jobs go on")
    with group.client(group.servers[1].port) as client:
        assert client.xlen("posthouse:handler:archive") >= 1
        assert client.llen("dramatiq:work") == 1
    output.close()
    broker.close()
