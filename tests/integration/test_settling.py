"""What is safe here and still to be told to its server is told until the server agrees.

For an administrator: what a server has still to be told counts in `posthouse_settlements_pending`,
and the rule PosthouseSettlementsPending fires where it lasts; what can only be flagged is a warning
on the connection's page, too; a refusal fails the connection with the server's words (page,
`connection-failing` alert). test_what_is_told.py looks at each. What is settled again in a folder
made anew is nothing to tell, as the last test here sees.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.admin.operations.connection_warnings import warnings_for
from shared.storage import connections
from tests.rig.administrator_view import Telling
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.scripted import MAILS, Conversation, ScriptedServer, imap, pop3


@pytest.mark.promise("M7")
def test_a_deletion_that_the_server_refused_is_asked_for_again(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    asked: list[bytes] = []

    def refuse_at_first(talk: Conversation, _: bytes, number: bytes) -> None:
        asked.append(number)
        talk.send(b"-ERR not now\r\n" if len(asked) <= len(MAILS) else b"+OK\r\n")

    stack = build_stack(redis_url)
    stack.add_handler()
    with ScriptedServer(pop3({"DELE": refuse_at_first})) as server:
        stack.start("scheduler", "fetcher", "decryptor")
        connection = stack.add_plain_connection(
            server.port, name="poor", mode="pop3", after_download="delete"
        )
        stack.wait(lambda: stack.count("delivery") == len(MAILS), "every mail is delivered")
        stack.wait(
            lambda: stack.query("SELECT failures FROM connection_state") == [(1,)], "it was refused"
        )
        assert stack.count("settlement") == len(MAILS)
        stack.run_once(connection)
        stack.wait_settled(len(MAILS))
        stack.stop()
    assert stack.count("delivery") == len(MAILS)
    assert set(asked[len(MAILS) :]) == {b"%d" % number for number in MAILS}


@pytest.mark.promise("M7")
def test_one_mail_that_somebody_flagged_deleted_does_not_end_deleting(
    redis_url: str, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """At a server without UIDPLUS. For an administrator: the warning `only-flagged` at the
    connection, a line in the fetcher's log, and `posthouse_settlements_pending`."""
    sent = [mail(number, 500, seed=45) for number in range(6)]
    stack = build_stack(redis_url)
    stack.add_handler()
    with Dovecot(capabilities="IMAP4rev1") as server:
        server.deliver(mail_user, [b"Subject: a stranger\r\n\r\n"], flags=r"\Deleted \Seen")
        server.deliver(mail_user, sent[:2])
        stack.start("scheduler", "fetcher", "decryptor")
        connection = stack.watch(server, mail_user, after_download="delete")
        stack.wait(lambda: stack.count("delivery") == 2, "the first mails")
        flagged = "SELECT count(*) FROM settlement WHERE flagged_at IS NOT NULL"
        stack.wait(lambda: stack.query(flagged) == [(2,)], "they could only be flagged")
        server.deliver(mail_user, sent[2:4])
        stack.run_once(connection)
        stack.wait(lambda: stack.query(flagged) == [(4,)], "and so could the next ones")
        assert len(server.flags(mail_user)) == 5
        with stack.database.transaction() as session:
            found = warnings_for(session, connections.get(session, connection))
        assert [w.code for w in found if "4 mails are flagged" in w.text] == ["only-flagged"]
        # Somebody takes that flag back: with the next mail everything of ours goes.
        with server.client(mail_user) as other:
            other.select_folder("INBOX")
            other.remove_flags(other.search("SUBJECT stranger"), [r"\Deleted"])
        server.deliver(mail_user, sent[4:])
        stack.run_once(connection)
        stack.wait_settled(len(sent))
        left = server.flags(mail_user)
        stack.stop()
    assert list(left.values()) == [{r"\Seen"}], "the stranger's mail, and nothing of ours"
    assert stack.query(flagged) == [(0,)]


@pytest.mark.promise("M7", "I9")
def test_what_could_only_be_flagged_is_ours_in_a_folder_made_anew_too(
    redis_url: str, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """Another UIDVALIDITY while a stranger's flag keeps ours from being removed: taken for other
    strangers' mails, they would stay for ever, and with them all that comes later."""
    sent = [mail(number, 500, seed=46) for number in range(5)]
    stack = build_stack(redis_url)
    stack.add_handler()
    flagged = "SELECT count(*) FROM settlement WHERE flagged_at IS NOT NULL"
    with Dovecot(capabilities="IMAP4rev1") as server, FetcherHere(stack).working() as here:
        server.deliver(mail_user, [b"Subject: a stranger\r\n\r\n"], flags=r"\Deleted \Seen")
        server.deliver(mail_user, sent[:3])
        connection = stack.watch(server, mail_user, after_download="delete")
        here.run_until_idle(connection)
        assert stack.query(flagged) == [(3,)]
        here.fetcher.dispatcher.sessions.drop([connection])
        server.stop()
        for file in server.home(mail_user).rglob("dovecot*"):
            file.unlink()
        server.start()
        server.deliver(mail_user, sent[3:4])
        here.run_until_idle(connection)
        assert stack.query(flagged) == [(4,)]
        with server.client(mail_user) as other:
            other.select_folder("INBOX")
            other.remove_flags(other.search("SUBJECT stranger"), [r"\Deleted"])
        server.deliver(mail_user, sent[4:])
        here.run_until_idle(connection)
        assert list(server.flags(mail_user).values()) == [{r"\Seen"}], "the stranger's mail alone"
        assert here.had() == digests(sent)
    assert stack.query("SELECT count(DISTINCT uid_validity) FROM message") == [(2,)]
    assert stack.count("settlement") == 0


@pytest.mark.promise("M7")
@pytest.mark.parametrize(
    ("capability", "ending"),
    [(b"IMAP4rev1 UIDPLUS UNSELECT", [b"UNSELECT"]), (b"IMAP4rev1", [b"EXAMINE", b"CLOSE"])],
)
def test_the_folder_is_left_at_the_end_of_a_run_that_settled(
    capability: bytes, ending: list[bytes], redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Some servers write flags only then (mailutils): a person saw the mails as unread for long.
    Read-only, CLOSE removes nothing (RFC 3501 section 6.4.2)."""
    stack = build_stack(redis_url)
    stack.add_handler()
    with ScriptedServer(imap(capability=capability, settles=True)) as server:
        stack.start("scheduler", "fetcher", "decryptor")
        stack.add_plain_connection(server.port, name="one", mode="imap")
        stack.wait_settled(len(MAILS))
        asked = "SELECT last_success_at IS NOT NULL FROM connection_state"
        stack.wait(lambda: stack.query(asked) == [(True,)], "the run is over")
        said = [line.split(b" ")[1] for line in list(server.heard) if b" " in line]
        stack.stop()
    stored = len(said) - 1 - said[::-1].index(b"UID")
    assert said[stored + 1 :][: len(ending)] == ending


@pytest.mark.promise("M7", "I9")
def test_recognised_mails_of_a_folder_made_anew_are_settled(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    """A backup of before the run is restored: the mails are unread again, under new UIDs. (Of a
    connection that deletes: test_kept_mails.py.)"""
    sent = [mail(number, 500, seed=46) for number in range(3)]
    stack = build_stack(redis_url)
    stack.add_handler()
    with dovecot.client(mail_user) as other:
        other.create_folder("Orders")
    dovecot.deliver(mail_user, sent, "Orders")

    def settled() -> bool:
        flags = dovecot.flags(mail_user, "Orders").values()
        return all(r"\Seen" in of_one for of_one in flags)

    with Telling(stack) as telling:
        connection = stack.watch(dovecot, mail_user, folder="Orders")
        stack.wait_settled(len(sent))
        with dovecot.client(mail_user) as other:
            other.delete_folder("Orders")
            other.create_folder("Orders")
        dovecot.deliver(mail_user, sent, "Orders")
        stack.run_once(connection)
        stack.wait(settled, "they are settled again")
        telling.log_in()
        assert "Working" in telling.page(f"/connections/{connection}")
        assert telling.alerts() == []
        pending = "posthouse_settlements_pending"
        stack.wait(lambda: telling.metric("scheduler", pending) == 0, "nothing is left to settle")
        stack.stop()
    assert stack.count("delivery") == len(sent)
    assert stack.count("settlement") == 0
