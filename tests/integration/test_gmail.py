"""Gmail: one mail under several labels is one mail, and deleting is moving to the trash.

For an administrator: no page, alert or metric tells these apart, as nothing fails. The mail stands
once in the list of mails, with its path; what a handler had under another label comes to no queue
again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shared.connections import AfterDownload, Selection
from shared.handlers import Handler
from shared.storage import connections, gmail_labels, handlers
from tests.contract.mailbox_kinds import mail
from tests.contract.recorders import Collector, KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.gmail import THREAD, GmailFront

TRASH = "[Gmail]/Papierkorb"


@pytest.fixture
def stack(build_stack: Callable[..., Stack], redis_url: str) -> Stack:
    return build_stack(redis_url)


def watch(stack: Stack, gmail: GmailFront, user: str, folder: str = "", **fields: Any) -> int:
    return stack.add_plain_connection(
        gmail.port,
        name=f"{user} {folder or 'inbox'}",
        mode="imap",
        username=user,
        folder=folder,
        **{"selection": "all", **fields},
    )


def label(server: Dovecot, user: str, name: str, source: str = "INBOX") -> None:
    """Every mail of `source` gets another label."""
    with server.client(user) as other:
        if not other.folder_exists(name):
            other.create_folder(name)
        other.select_folder(source, readonly=True)
        other.copy(other.search("ALL"), name)


def received(redis_url: str, handler: str) -> list[str]:
    events = open_queue(redis_url, handler).events()
    return sorted(event["data"]["headers"]["subject"] for event in events)


def all_settled(stack: Stack) -> None:
    left = "SELECT (SELECT count(*) FROM settlement) + (SELECT count(*) FROM outbox)"
    stack.wait(lambda: stack.query(left)[0][0] == 0, "everything settled and published")


@pytest.mark.promise("I3")
def test_a_mail_under_two_labels_reaches_a_handler_once(
    stack: Stack, gmail: GmailFront, gmail_dovecot: Dovecot, redis_url: str, mail_user: str
) -> None:
    """Both labels are fetched at the same time; in each of them the mail is settled."""
    gmail_dovecot.deliver(mail_user, [mail(f"mail {n}") for n in range(30)])
    label(gmail_dovecot, mail_user, "Support")
    gmail_dovecot.deliver(mail_user, [mail("only Support")], "Support")
    stack.add_handler()
    for folder in ("", "Support"):
        watch(stack, gmail, mail_user, folder)
    stack.start("scheduler", "fetcher", "fetcher", "decryptor")

    def every_mail_read() -> bool:
        stack.hurry()
        return all(
            "\\Seen" in flags
            for folder in ("INBOX", "Support")
            for flags in gmail_dovecot.flags(mail_user, folder).values()
        )

    stack.wait(every_mail_read, "both labels settled")
    all_settled(stack)
    stack.stop()
    expected = sorted([*(f"mail {n}" for n in range(30)), "only Support"])
    assert received(redis_url, "archive") == expected
    assert stack.count("message") == 31


@pytest.mark.promise("I3")
def test_a_handler_of_one_label_has_what_another_handler_had_already(
    stack: Stack, gmail: GmailFront, gmail_dovecot: Dovecot, redis_url: str, mail_user: str
) -> None:
    """Who takes both labels has the mail once; who takes the second one has it as well."""
    gmail_dovecot.deliver(mail_user, [mail("for both")])
    stack.add_handler("archive")
    inbox = watch(stack, gmail, mail_user)
    stack.start("scheduler", "fetcher", "decryptor")
    stack.wait_settled(1)
    label(gmail_dovecot, mail_user, "Support")
    support = watch(stack, gmail, mail_user, "Support")
    with stack.database.transaction() as session:
        handlers.insert(session, Handler(name="tickets", connection_ids=(support,)))
    stack.fetch_now(support)
    stack.wait(lambda: received(redis_url, "tickets") == ["for both"], "the second handler")
    all_settled(stack)
    stack.run_once(inbox)
    stack.run_once(support)
    stack.stop()
    assert received(redis_url, "archive") == received(redis_url, "tickets") == ["for both"]


@pytest.mark.promise("I9", "R1")
def test_under_another_label_a_mail_stays_with_the_handler_of_its_group(
    stack: Stack, gmail: GmailFront, gmail_dovecot: Dovecot, redis_url: str, mail_user: str
) -> None:
    """Neither does another one of the group get it, nor one whose rules leave it out."""
    gmail_dovecot.deliver(mail_user, [mail("for the desk")])
    inbox = watch(stack, gmail, mail_user)
    stack.add_handler("first", group="desk", position=1, connections=[inbox])
    stack.add_handler("second", group="desk", position=2)
    stack.add_handler("choosy", rules={"accept": [{"folder": "Support"}]})
    stack.add_handler("never", rules={"reject": [{"subject": "desk"}]})
    stack.start("scheduler", "fetcher", "decryptor")
    stack.wait_settled(1)
    label(gmail_dovecot, mail_user, "Support")
    support = watch(stack, gmail, mail_user, "Support")
    stack.fetch_now(support)
    stack.wait(lambda: received(redis_url, "choosy") == ["for the desk"], "the other label")
    all_settled(stack)
    stack.stop()
    assert received(redis_url, "first") == ["for the desk"]
    assert received(redis_url, "second") == received(redis_url, "never") == []


@pytest.mark.promise("M9")
def test_another_folder_of_the_same_account_brings_no_mail_again(
    stack: Stack, gmail: GmailFront, gmail_dovecot: Dovecot, redis_url: str, mail_user: str
) -> None:
    """The inbox was watched, then All Mail is: what came through the inbox is known there."""
    everything = "[Gmail]/Alle Nachrichten"
    gmail_dovecot.deliver(mail_user, [mail("old"), mail("older")])
    stack.add_handler()
    connection = watch(stack, gmail, mail_user)
    stack.start("scheduler", "fetcher", "decryptor")
    stack.wait_settled(2)
    label(gmail_dovecot, mail_user, everything)
    gmail_dovecot.deliver(mail_user, [mail("archived at once")], everything)
    with stack.database.transaction() as session:
        before = connections.get(session, connection)
        connections.update(session, replace(before, folder=everything))
        connections.forget_cursor(session, connection)
        assert gmail_labels.known_elsewhere(session, replace(before, folder=everything))
        assert not gmail_labels.known_elsewhere(session, before)
    stack.fetch_now(connection)
    stack.wait(lambda: len(received(redis_url, "archive")) >= 3, "the archived mail")
    all_settled(stack)
    stack.stop()
    assert received(redis_url, "archive") == ["archived at once", "old", "older"]


@pytest.mark.promise("M10")
def test_moved_out_of_a_label_and_back_in_is_a_new_mail(
    stack: Stack, gmail: GmailFront, gmail_dovecot: Dovecot, redis_url: str, mail_user: str
) -> None:
    gmail_dovecot.deliver(mail_user, [mail("wanderer")])
    stack.add_handler()
    connection = watch(stack, gmail, mail_user)
    stack.start("scheduler", "fetcher", "decryptor")
    stack.wait_settled(1)
    with gmail_dovecot.client(mail_user) as other:
        other.create_folder("Elsewhere")
        for source, target in (("INBOX", "Elsewhere"), ("Elsewhere", "INBOX")):
            other.select_folder(source)
            other.move(other.search("ALL"), target)
    stack.fetch_now(connection)
    stack.wait(lambda: received(redis_url, "archive") == ["wanderer"] * 2, "it comes again")
    stack.stop()


@pytest.mark.promise("I3")
def test_a_mail_that_is_not_yet_handed_over_is_waited_for(
    stack: Stack, gmail: GmailFront, gmail_dovecot: Dovecot, redis_url: str, mail_user: str
) -> None:
    """While nothing is published, nobody can say who has the mail: the second label waits."""
    gmail_dovecot.deliver(mail_user, [mail("slow")])
    label(gmail_dovecot, mail_user, "Support")
    stack.add_handler()
    inbox = watch(stack, gmail, mail_user)
    stack.start("scheduler", "fetcher")
    stack.wait(lambda: stack.count("message") == 1, "the first label")
    support = watch(stack, gmail, mail_user, "Support")
    stack.run_once(support)
    stack.run_once(support)
    assert stack.count("message") == 1
    assert gmail_dovecot.flags(mail_user, "Support") == {1: set()}
    stack.start("decryptor")
    stack.wait(lambda: received(redis_url, "archive") == ["slow"], "the mail is handed over")
    stack.wait(lambda: stack.count("outbox") == 0, "and recorded so")
    stack.run_once(support)
    stack.wait(lambda: gmail_dovecot.flags(mail_user, "Support") == {1: {"\\Seen"}}, "it is had")
    stack.run_once(inbox)
    stack.stop()
    assert received(redis_url, "archive") == ["slow"]


@pytest.mark.promise("I3")
def test_a_mail_that_is_waited_for_is_not_downloaded_meanwhile(
    stack: Stack, gmail: GmailFront, gmail_dovecot: Dovecot, mail_user: str
) -> None:
    """As every look at the second label would do until its mail is handed over."""
    gmail_dovecot.deliver(mail_user, [mail("slow")])
    label(gmail_dovecot, mail_user, "Support")
    stack.add_handler()
    inbox, support = watch(stack, gmail, mail_user), watch(stack, gmail, mail_user, "Support")
    with FetcherHere(stack).working() as here:
        here.run(inbox)
        steps: list[str] = []
        here.reached = steps.append
        here.run(support)
    assert steps.count("listed") == 1
    assert "downloaded" not in steps
    assert stack.count("message") == 1


@pytest.mark.promise("I3")
def test_a_mail_that_comes_through_another_label_during_its_download_comes_once(
    stack: Stack, gmail: GmailFront, gmail_dovecot: Dovecot, mail_user: str
) -> None:
    """Nothing was known of it as the first label was looked at."""
    gmail_dovecot.deliver(mail_user, [mail("twice")])
    label(gmail_dovecot, mail_user, "Support")
    stack.add_handler()
    inbox, support = watch(stack, gmail, mail_user), watch(stack, gmail, mail_user, "Support")
    meanwhile: list[int] = []
    with FetcherHere(stack).working() as here:

        def reached(step: str) -> None:
            if step == "downloaded" and not meanwhile:
                meanwhile.append(0)
                here.run(inbox)
                meanwhile.append(stack.count("message"))

        here.reached = reached
        here.run(support)
    assert meanwhile == [0, 1]
    assert stack.query("SELECT connection_id FROM message") == [(inbox,)]
    # Who has it is not known yet: it waits, and is not marked read where it was found second.
    assert gmail_dovecot.flags(mail_user, "Support") == {1: set()}


@pytest.mark.promise("M7")
def test_deleting_moves_to_the_trash_whatever_its_name(
    gmail: GmailFront, gmail_dovecot: Dovecot, mail_user: str
) -> None:
    """Gmail archives what is expunged: only its trash, found by its use, deletes."""
    gmail_dovecot.deliver(mail_user, [mail("ours"), mail("not ours"), mail("ours too")])
    with gmail_dovecot.client(mail_user) as other:
        other.select_folder("INBOX")
        other.add_flags([2], [rb"\Deleted"])
    with opened(connection_to(gmail.port, username=mail_user)) as mailbox:
        mailbox.open("")
        assert mailbox.capabilities.exact_delete
        refs = [ref for ref in mailbox.list_new(KnownKeys(), Selection.ALL).new if ref.key != 2]
        mailbox.download(refs, Collector(), limit=1 << 20)
        settled = mailbox.settle(refs, AfterDownload.DELETE)
        assert [ref.key for ref in settled] == [1, 3]
    assert set(gmail_dovecot.flags(mail_user)) == {2}
    with gmail_dovecot.client(mail_user) as other:
        other.select_folder(TRASH, readonly=True)
        heads = other.fetch(other.search("ALL"), ["ENVELOPE"]).values()
        assert sorted(head[b"ENVELOPE"].subject for head in heads) == [b"ours", b"ours too"]


@pytest.mark.promise("M7")
def test_what_is_in_the_trash_already_is_deleted_for_good(
    gmail: GmailFront, gmail_dovecot: Dovecot, mail_user: str
) -> None:
    gmail_dovecot.deliver(mail_user, [mail("rubbish")], TRASH)
    with opened(connection_to(gmail.port, username=mail_user)) as mailbox:
        mailbox.open(TRASH)
        refs = mailbox.list_new(KnownKeys(), Selection.ALL).new
        assert len(mailbox.settle(refs, AfterDownload.DELETE)) == 1
    assert gmail_dovecot.flags(mail_user, TRASH) == {}


@pytest.mark.promise("F4")
def test_the_event_tells_the_thread_and_the_labels_of_gmail(
    stack: Stack, gmail: GmailFront, gmail_dovecot: Dovecot, redis_url: str, mail_user: str
) -> None:
    """Labels may hold any words: none of them is taken for something else of the answer."""
    gmail_dovecot.deliver(mail_user, [mail("labelled")])
    stack.add_handler()
    watch(stack, gmail, mail_user)
    stack.start("scheduler", "fetcher", "decryptor")
    stack.wait_settled(1)
    stack.stop()
    (event,) = open_queue(redis_url, "archive").events()
    assert event["data"]["mail"]["thread"] == str(THREAD)
    assert event["data"]["mail"]["labels"] == ["\\Important", 'UID 7 ("old")', "Bücher"]
