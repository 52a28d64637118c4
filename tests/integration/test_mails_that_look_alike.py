"""Devices that write one header into all of their mails: each mail comes.

By its header alone none of them is recognised. What that costs: where a folder is made anew, or all
ids change, such mails are handed over once more.

For an administrator: nothing fails, and no page, alert or metric tells such a mail from others.
"""

from __future__ import annotations

import pytest

from tests.integration.test_pop3_confirming import watch
from tests.integration.test_pop3_rebinding import Counting
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.dovecot import Dovecot
from tests.servers.pop3_rules import RuledPop3

OTHERS = [mail(number, 500, seed=81) for number in range(12)]
NO_CLOCK = b"Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"


def alarm(number: int, fields: bytes = b"") -> bytes:
    return b"From: plant@example.org\r\nSubject: Alarm\r\n%b\r\nPump %d\r\n" % (fields, number)


@pytest.mark.promise("I9", "M9")
@pytest.mark.parametrize(
    ("others", "fields", "top"),
    [(OTHERS, b"", True), (OTHERS, NO_CLOCK, True), ([], b"", True), ([], b"", False)],
    ids=["among others", "with a date of 1970", "alone", "without TOP"],
)
def test_one_that_comes_as_another_was_removed_is_new(
    others: list[bytes], fields: bytes, top: bool, here: FetcherHere
) -> None:
    """Removed by another program that reads the mailbox."""
    with RuledPop3(top=top) as server:
        server.deliver("alice", [*others, alarm(1, fields)])
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        server.vanish("alice", alarm(1, fields))
        server.deliver("alice", [alarm(2, fields)])
        here.run_until_idle(connection)
        assert here.had() == digests([*others, alarm(1, fields), alarm(2, fields)])


@pytest.mark.promise("I9", "M9")
@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
@pytest.mark.parametrize("fields", [b"", NO_CLOCK], ids=["no date", "a date of 1970"])
def test_one_that_gets_the_id_of_another_mail_is_new(
    fields: bytes, after_download: str, here: FetcherHere
) -> None:
    """At a server that gives ids again, after both were removed."""
    with Counting() as server:
        server.deliver("alice", [OTHERS[0], alarm(1, fields)])
        connection = watch(here, server, after_download)
        here.run_until_idle(connection)
        server.remove("alice")
        here.run_until_idle(connection)
        server.deliver("alice", [OTHERS[1], alarm(2, fields)])
        here.run_until_idle(connection)
        assert here.had() == digests([*OTHERS[:2], alarm(1, fields), alarm(2, fields)])


@pytest.mark.promise("I9", "M9")
def test_one_that_gets_the_id_of_a_mail_to_be_deleted_is_not_deleted(here: FetcherHere) -> None:
    """Its server refused the deletion of the other one, which somebody else removed."""
    with Counting() as server:
        server.refuse_deletion = lambda stored: True
        server.deliver("alice", [alarm(1, NO_CLOCK)])
        connection = watch(here, server, "delete")
        here.run(connection)
        assert here.had() == digests([alarm(1, NO_CLOCK)])
        server.remove("alice")
        server.deliver("alice", [alarm(2, NO_CLOCK)])
        server.refuse_deletion = lambda stored: False
        here.run_until_idle(connection)
        assert here.had() == digests([alarm(1, NO_CLOCK), alarm(2, NO_CLOCK)])


@pytest.mark.promise("I9", "M9")
@pytest.mark.parametrize("fields", [b"", NO_CLOCK], ids=["no date", "a date of 1970"])
def test_one_in_a_folder_made_anew_is_new(
    fields: bytes, here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    with dovecot.client(mail_user) as other:
        other.create_folder("Alarms")
        dovecot.deliver(mail_user, [*OTHERS[:2], alarm(1, fields)], "Alarms")
        connection = here.stack.watch(dovecot, mail_user, folder="Alarms", selection="all")
        here.run_until_idle(connection)
        here.fetcher.dispatcher.sessions.drop([connection])
        other.delete_folder("Alarms")
        other.create_folder("Alarms")
        dovecot.deliver(mail_user, [*OTHERS[:2], alarm(2, fields)], "Alarms")
        here.run_until_idle(connection)
    assert here.had() == digests([*OTHERS[:2], alarm(1, fields), alarm(2, fields)])
