"""A folder that was re-created or renamed is told by its identity (MAILBOXID, RFC 8474).

For an administrator: nothing fails where mails are recognised; where their headers are refused, the
connection is failing with the server's words (page, `connection-failing` alert,
`posthouse_fetch_runs_total`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from services.fetcher.lane_wait_budgets import Lane
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.scripted import (
    CAPABILITY,
    Conversation,
    ScriptedServer,
    body_response,
    imap,
    read_set,
)

VALIDITY = 7


class Folder:
    """An inbox whose identity and mails a test may change; its UIDVALIDITY stays."""

    def __init__(self, mails: dict[int, bytes]) -> None:
        self.identity = b"F-first"
        self.mails = dict(mails)
        self.validity = VALIDITY
        #: The session ends where this mail is asked for.
        self.breaks_at: bytes | None = None
        self.opened: Callable[[], None] = lambda: None
        #: Words to refuse the headers of these mails with, empty where they are shown.
        self.refuse_headers: Callable[[set[int]], bytes] = lambda uids: b""

    def script(self, talk: Conversation) -> None:
        imap(
            {
                "STATUS": self._status,
                "EXAMINE": self._examine,
                "SELECT": self._select,
                "HEADERS": self._headers,
                "UID FETCH": self._bodies,
            },
            live=self.mails,
            capability=CAPABILITY + b" OBJECTID",
        )(talk)

    def _status(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        top = max(self.mails, default=0) + 1
        talk.send(
            b'* STATUS "INBOX" (MESSAGES %d UIDNEXT %d UIDVALIDITY %d UNSEEN %d)\r\n'
            % (len(self.mails), top, self.validity, len(self.mails))
        )
        talk.ok(tag)

    def _examine(self, talk: Conversation, tag: bytes, _: bytes) -> None:
        self.opened()
        self._open(talk, b"READ-ONLY")
        talk.ok(tag)

    def _select(self, talk: Conversation, tag: bytes, _: bytes) -> None:
        self._open(talk, b"READ-WRITE")
        talk.ok(tag)

    def _open(self, talk: Conversation, access: bytes) -> None:
        talk.send(
            b"* %d EXISTS\r\n* OK [UIDVALIDITY %d] ok\r\n* OK [MAILBOXID (%s)] ok\r\n"
            b"* OK [%s] ok\r\n" % (len(self.mails), self.validity, self.identity, access)
        )

    def _headers(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        words = self.refuse_headers(read_set(rest.split(b" ")[0], 9))
        if words:
            talk.send(tag + b" NO " + words + b"\r\n")
            return
        for uid in sorted(read_set(rest.split(b" ")[0], 9) & self.mails.keys()):
            block = self.mails[uid].partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            head = b"* %d FETCH (UID %d BODY[HEADER]<0> {%d}\r\n" % (uid, uid, len(block))
            talk.send(head + block + b")\r\n")
        talk.ok(tag)

    def _bodies(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], 9) & self.mails.keys()):
            if self.mails[uid] == self.breaks_at:
                talk.hang_up()
                return
            talk.send(body_response(uid, self.mails[uid]))
        talk.ok(tag)


@pytest.fixture
def folder() -> Iterator[tuple[Folder, ScriptedServer]]:
    served = Folder({1: mail(1, 300, seed=5), 2: mail(2, 300, seed=5)})
    with ScriptedServer(served.script) as server:
        yield served, server


@pytest.mark.promise("I9")
def test_another_folder_under_the_same_name_and_validity_loses_no_mail(
    folder: tuple[Folder, ScriptedServer], redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """UIDs alone would say that everything of the new folder was had."""
    served, server = folder
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "decryptor")
    number = stack.add_plain_connection(server.port, name="renamed", mode="imap", selection="all")
    old = dict(served.mails)
    with FetcherHere(stack).working() as fetcher:
        fetcher.run_until_idle(number)
        assert stack.count("message") == 2
        served.identity = b"F-second"
        served.mails.clear()
        fetcher.fetcher.dispatcher.sessions.drop([number])
        served.mails |= {1: mail(3, 300, seed=5), 2: old[1], 3: mail(4, 300, seed=5)}
        fetcher.run_until_idle(number)
    stack.wait_settled(4)
    stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(
        [*old.values(), mail(3, 300, seed=5), mail(4, 300, seed=5)]
    )


def test_the_same_folder_is_no_other_one(
    folder: tuple[Folder, ScriptedServer], redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    _, server = folder
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "decryptor")
    number = stack.add_plain_connection(server.port, name="same", mode="imap", selection="all")
    with FetcherHere(stack).working() as fetcher:
        for _ in range(3):
            fetcher.run_until_idle(number)
    ((cursor, changed),) = stack.query("SELECT cursor, validity_changed_at FROM connection_state")
    assert cursor["mailbox_id"] == "F-first"
    assert changed is None
    assert stack.count("message") == 2


@pytest.mark.promise("I9", "M27")
def test_a_session_that_breaks_in_another_folder_makes_nothing_new_again(
    folder: tuple[Folder, ScriptedServer], redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """A mail there breaks it, while mails of the old folder are still to be copied."""
    served, server = folder
    stack = build_stack(redis_url)
    stack.add_handler()
    number = stack.add_plain_connection(server.port, name="renamed", mode="imap", selection="all")
    old = dict(served.mails)
    new, bad, last = (mail(number, 300, seed=5) for number in range(3, 6))
    stack.execute("UPDATE connection_state SET pruned_at = now()")  # so nothing is packed yet
    with FetcherHere(stack).working() as fetcher:
        fetcher.run_until_idle(number)
        served.identity = b"F-second"
        served.breaks_at = bad
        served.mails.clear()
        fetcher.fetcher.dispatcher.sessions.drop([number])
        served.mails |= {1: new, 2: bad, 3: last}
        for _ in range(2):
            fetcher.run_until_idle(number)
        served.mails |= {4: old[1], 5: old[2]}
        fetcher.run_until_idle(number)
        assert fetcher.had() == digests([*old.values(), new, last])
    assert stack.count("quarantine") == 1


@pytest.mark.promise("I4", "I9")
@pytest.mark.parametrize("change", ["first look", "another validity", "another folder"])
def test_a_run_whose_lease_was_taken_away_decides_nothing_of_the_folder(
    change: str,
    folder: tuple[Folder, ScriptedServer],
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    """As by an edit while it looks: what the next run begins with stays as that left it."""
    served, server = folder
    stack = build_stack(redis_url)
    stack.add_handler()
    number = stack.add_plain_connection(server.port, name="edited", mode="imap", selection="all")
    asked = "SELECT uid_validity, validity_changed_at FROM connection_state"

    with FetcherHere(stack).working() as fetcher:
        if change != "first look":
            fetcher.run_until_idle(number)
            fetcher.fetcher.dispatcher.sessions.drop([number])
        if change == "another validity":
            served.validity += 1
        else:
            served.identity = b"F-second"
        served.mails |= {3: mail(3, 300, seed=5)}
        known = stack.query("SELECT uid_validity, uids FROM known_uid")
        before = stack.query(asked)
        served.opened = fetcher.take_leases_away
        fetcher.run(number)
        assert stack.query(asked) == before
        assert stack.query("SELECT uid_validity, uids FROM known_uid") == known


@pytest.mark.promise("I9")
@pytest.mark.parametrize("words", ["mail is damaged", "[SERVERBUG] Internal error", "[OVERQUOTA]"])
def test_mails_whose_headers_are_refused_do_not_come_again(
    words: str,
    folder: tuple[Folder, ScriptedServer],
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    """Together because of one of them, or all for a while, while bodies are given: to recognise
    none would hand the whole mailbox over again."""
    served, server = folder
    stack = build_stack(redis_url)
    stack.add_handler()
    number = stack.add_plain_connection(server.port, name="again", mode="imap", selection="all")
    together = words == "mail is damaged"
    with FetcherHere(stack).working() as fetcher:
        fetcher.run_until_idle(number)
        had = fetcher.had()
        served.validity += 1
        fetcher.fetcher.dispatcher.sessions.drop([number])
        served.refuse_headers = lambda uids: words.encode() if len(uids) > together else b""
        fetcher.run_until_idle(number)
        assert fetcher.had() == had
        served.refuse_headers = lambda uids: b""
        served.mails |= {3: mail(3, 300, seed=5)}
        fetcher.run_until_idle(number)
        assert fetcher.had() == digests(list(served.mails.values()))


@pytest.mark.promise("I9")
def test_mails_of_an_earlier_validity_do_not_come_again_as_a_server_goes_back_to_it(
    folder: tuple[Folder, ScriptedServer], redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """As one does that fails over and back. What it pushes then has higher UIDs than were had under
    the other validity, and lower ones than were had before."""
    served, server = folder
    stack = build_stack(redis_url)
    stack.add_handler()
    number = stack.add_plain_connection(server.port, name="replicas", mode="imap", selection="all")
    first, last = served.mails[1], mail(3, 300, seed=5)
    served.mails |= {3: last}
    had = digests(list(served.mails.values()))
    with FetcherHere(stack).working() as here:
        dispatcher = here.fetcher.dispatcher
        here.run_until_idle(number)
        for validity, there in ((VALIDITY + 1, {1: first}), (VALIDITY, {3: last})):
            assert here.had() == had
            served.validity = validity
            served.mails.clear()
            served.mails |= there
            if validity != VALIDITY:
                here.run_until_idle(number)
        pushed = dispatcher.begin_announced([number], has_room=True, postponed=1.0)
        assert pushed is not None
        assert [run.unknown_from for run in pushed.over_open] == [2]
        dispatcher.run_all([*pushed.over_open], pushed.correlation_id, Lane.COMMON)
        assert here.had() == had
