"""POP3 servers that break off, talk nonsense, trickle or never end.

For an administrator: page, alert and metric as in test_breaking_mails.py where a mail is the cause,
and as in test_throttled_downloads.py where the server is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from shared.connections import Mode
from shared.mailbox.base import MailRef
from shared.mailbox.failures import SessionLost
from tests.contract.recorders import KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.integration.test_hostile_pop3 import ALL, downloaded
from tests.servers.scripted import (
    MAILS,
    Conversation,
    ScriptedServer,
    pop3,
    stuffed,
)


def answer_then(octets: bytes, end: str) -> Callable[[Conversation, bytes, bytes], None]:
    def answer(talk: Conversation, tag: bytes, rest: bytes) -> None:
        if rest == b"1":
            talk.send(b"+OK\r\n" + stuffed(MAILS[1]))
        else:
            talk.send(octets)
            getattr(talk, end)()

    return answer


@pytest.mark.parametrize("began", [b"", b"+O", b"+OK\r\n", b"+OK\r\nhalf a mai", b"+OK\r\nx\r\n."])
@pytest.mark.parametrize(
    ("end", "code"), [("hang_up", "connection-lost"), ("say_nothing", "read-timeout")]
)
def test_breaking_off_keeps_what_was_whole(began: bytes, end: str, code: str) -> None:
    sink, error = downloaded(pop3({"RETR": answer_then(began, end)}), timeout_s=0.3)
    assert isinstance(error, SessionLost)
    assert (error.code, error.step) == (code, "download")
    assert sink.mails == {"uidl-1": MAILS[1]}
    assert not sink.abandoned


@pytest.mark.parametrize(
    "octets", [b"hello\r\n", b"\0\0\r\n", b"A" * 3_000_000, b"* OK wrong protocol\r\n"]
)
def test_nonsense_ends_the_session(octets: bytes) -> None:
    sink, error = downloaded(pop3({"RETR": answer_then(octets, "say_nothing")}))
    assert isinstance(error, SessionLost)
    assert error.code == "protocol-error"
    assert sink.mails == {"uidl-1": MAILS[1]}


@pytest.mark.promise("H4")
def test_a_mail_longer_than_it_claims_is_quarantined() -> None:
    mails = {1: b"a\r\n" * 10, 2: b"b\r\n" * 100_000, 3: b"c\r\n" * 10}
    refs = [MailRef(f"uidl-{n}", 30) for n in mails]
    sink, error = downloaded(pop3(mails=mails), refs, limit=1000)
    assert error is None
    assert set(sink.mails) == {"uidl-1", "uidl-3"}
    assert sink.abandoned["uidl-2"].code == "too-large"


@pytest.mark.promise("H4")
def test_one_mail_that_the_server_cannot_give_stops_no_other() -> None:
    def answer(talk: Conversation, tag: bytes, rest: bytes) -> None:
        if rest == b"2":
            talk.send(b"-ERR message is corrupt\r\n")
        else:
            talk.send(b"+OK\r\n" + stuffed(MAILS[int(rest)]))

    sink, error = downloaded(pop3({"RETR": answer}))
    assert error is None
    assert set(sink.mails) == {"uidl-1", "uidl-3"}
    assert sink.abandoned["uidl-2"].code == "mail-refused"


@pytest.mark.promise("M27")
@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    "refusal", [b"-ERR [SYS/TEMP] storage is away\r\n", b"-ERR Server Unavailable. 21\r\n"]
)
def test_a_server_that_refuses_everything_is_not_asked_for_everything(
    refusal: bytes, pipelining: bool
) -> None:
    more = b"PIPELINING\r\n" if pipelining else b""
    sink, error = downloaded(pop3({"RETR": refusal}, capabilities=b"UIDL\r\nTOP\r\n" + more))
    assert error is None
    assert not sink.mails
    codes = [reason.code for reason in sink.abandoned.values()]
    assert codes == ["mail-refused"] * (3 if pipelining else 2) + ["mail-not-asked"] * (
        0 if pipelining else 1
    )


@pytest.mark.promise("M8")
@pytest.mark.parametrize("begun", [b"+O", b"+OK\r\nSubject: "], ids=["first line", "mail"])
def test_a_mail_that_trickles_is_given_up(begun: bytes) -> None:
    """Each octet comes in time; all of them together never would."""

    def trickle(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(begun)
        while not talk._stopping.wait(0.02):
            talk.send(b"x")

    _, error = downloaded(pop3({"RETR": trickle}), timeout_s=0.1)
    assert isinstance(error, SessionLost)
    assert error.code == "read-timeout"
    assert "slowly" in str(error)


def test_listings_without_an_end_are_given_up() -> None:
    def endless(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"+OK\r\n")
        for block in itertools.count():
            talk.send(b"".join(b"%d uidl-%d\r\n" % (n, n) for n in range(block, block + 5000)))

    with (
        ScriptedServer(pop3({"UIDL": endless})) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
        pytest.raises(SessionLost) as caught,
    ):
        mailbox.keys()
    assert caught.value.code == "protocol-error"


def test_headers_without_an_end_are_cut() -> None:
    mails = {1: b"X-Long: " + b"h" * 2_000_000 + b"\r\nSubject: one\r\n\r\ntext\r\n", 2: MAILS[2]}
    with (
        ScriptedServer(pop3(mails=mails)) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
    ):
        mailbox.open("")
        refs = mailbox.list_new(KnownKeys(), ALL).new
        found = [block for _, block in mailbox.headers(refs)]
    assert [len(block) for block in found] == [262_144, len(b"Subject: two\r\n\r\n")]
