"""The doctor at servers that refuse, break off, or let go of what is retrieved."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.connections import Mode
from shared.mailbox.base import Login, Mailbox
from shared.mailbox.doctor.examination import Examination
from shared.mailbox.doctor.examine import examine
from shared.mailbox.doctor.recording import recording
from shared.mailbox.doctor.reporting import DoctorReport, report
from shared.mailbox.open import open_mailbox
from tests.integration.mail_sessions import connection_to
from tests.rig.mails import mail
from tests.servers.certificates import Authority
from tests.servers.mail_server import MailServer
from tests.servers.replayed import Recording, ReplayedServer
from tests.servers.scripted import Answer, ScriptedServer, imap, pop3

pytestmark = pytest.mark.promise("M25")
RECORDINGS = sorted((Path(__file__).parents[1] / "corpus" / "recordings").glob("*.json"))


def examined(connection: Any, password: str = "secret", seconds: float = 60) -> Examination:
    def opened(wanted: Any, *, mechanism: str = "", fresh: bool = False) -> Mailbox:
        login = Login(wanted.username, password, mechanism=mechanism)
        return open_mailbox(wanted, login, read_timeout_s=2)

    return examine(connection, opened, seconds=seconds)


def verdict_of(found: DoctorReport, form: str) -> str:
    return next(row.verdict for row in found.rows if row.form == form)


def row_of(found: DoctorReport, form: str) -> Any:
    return next(row for row in found.rows if row.form == form)


def test_one_refused_form_is_told_with_the_servers_words_and_the_others_go_on() -> None:
    def refuse(talk: Any, tag: bytes, _: bytes) -> None:
        talk.send(tag + b" NO [SERVERBUG] header cache \xff is broken\r\n")

    answers: dict[str, Answer] = {"HEADERS": refuse}
    with ScriptedServer(imap(answers)) as server:
        found = report(examined(connection_to(server.port)))
    assert not found.healthy
    row = row_of(found, "UID FETCH set (UID BODY.PEEK[HEADER]<0.n>)")
    assert row.verdict == "refused"
    assert row.words.startswith("[SERVERBUG] header cache")
    assert row.words.isprintable()
    assert row.meaning in " ".join(found.sentences)
    assert verdict_of(found, "UID FETCH set (UID BODY.PEEK[])") == "understood"
    assert verdict_of(found, "UID SEARCH UNSEEN UNDELETED") == "understood"
    assert row_of(found, "IDLE").verdict == "not-asked"


def test_a_server_that_hangs_up_in_the_middle_is_asked_the_rest() -> None:
    answers: dict[str, Answer] = {"UID FETCH": lambda talk, *_: talk.hang_up()}
    with ScriptedServer(imap(answers)) as server:
        found = report(examined(connection_to(server.port)))
    assert verdict_of(found, "UID FETCH set (UID BODY.PEEK[])") == "unanswered"
    assert verdict_of(found, "NOOP") == "understood"
    assert any("failed" in sentence for sentence in found.sentences)


def test_a_wrong_password_is_sent_once() -> None:
    answers: dict[str, Answer] = {
        "LOGIN": lambda talk, tag, _: talk.send(tag + b" NO [AUTHENTICATIONFAILED] no\r\n")
    }
    with ScriptedServer(imap(answers, capability=b"IMAP4rev1 AUTH=PLAIN AUTH=LOGIN")) as server:
        found = report(examined(connection_to(server.port)))
        logins = [line for line in server.heard if b"LOGIN" in line or b"AUTHENTICATE" in line]
    assert len(logins) == 1
    assert not found.healthy
    assert "secret" not in str(found)


def test_the_examination_ends_when_its_time_is_over() -> None:
    with ScriptedServer(imap()) as server:
        found = report(examined(connection_to(server.port), seconds=0))
    assert any("are over" in row.meaning for row in found.rows if row.verdict == "not-asked")


@pytest.mark.parametrize(
    ("capabilities", "greeting"),
    [
        (b"UIDL\r\nTOP\r\nEXPIRE 0\r\n", b"+OK ready\r\n"),
        (b"UIDL\r\nTOP\r\nX-GOOGLE-RICO\r\n", b"+OK Gpop ready\r\n"),
    ],
)
def test_nothing_is_retrieved_where_that_would_remove_it(
    capabilities: bytes, greeting: bytes
) -> None:
    """EXPIRE 0 (RFC 2449 section 6.7), and Gmail's list of what was not retrieved yet."""
    with ScriptedServer(pop3(capabilities=capabilities, greeting=greeting)) as server:
        found = report(examined(connection_to(server.port, Mode.POP3)))
        assert not [line for line in server.heard if line.startswith(b"RETR")]
    assert row_of(found, "RETR").verdict == "not-asked"
    assert "lets go" in row_of(found, "RETR").meaning
    assert found.healthy


@pytest.mark.rooted
def test_a_server_that_removes_what_was_retrieved_keeps_it_after_an_examination(
    mailutils: MailServer,
) -> None:
    user = f"user-{uuid.uuid4().hex[:8]}"
    mailutils.deliver(user, [mail(number, 300) for number in range(3)])
    found = report(examined(connection_to(mailutils.pop3_port, Mode.POP3, username=user)))
    assert found.healthy, found.sentences
    assert row_of(found, "RETR").verdict == "not-asked"
    assert verdict_of(found, "APOP name") == "refused"  # offered, and set up for nobody
    assert len(mailutils.flags(user)) == 3


def test_no_session_that_retrieved_a_mail_ends_with_quit() -> None:
    sessions: list[list[bytes]] = []

    def script(talk: Any) -> None:
        start = len(talk._heard)
        try:
            pop3()(talk)
        finally:
            sessions.append(list(talk._heard[start:]))

    with ScriptedServer(script) as server:
        found = report(examined(connection_to(server.port, Mode.POP3)))
    assert verdict_of(found, "RETR n") == "understood"
    for heard in sessions:
        verbs = [line.split(b" ")[0] for line in heard if line]
        assert b"DELE" not in verbs
        if b"RETR" in verbs:
            assert b"QUIT" not in verbs


@pytest.mark.parametrize("file", RECORDINGS, ids=lambda file: file.stem)
def test_a_recording_is_examined_as_its_server_was(file: Path, authority: Authority) -> None:
    """Each file in the corpus is a server, or a tenant, that somebody examined."""
    recorded = Recording.read(file)
    with ReplayedServer(recorded, authority) as server:

        def opened(wanted: Any, *, mechanism: str = "", fresh: bool = False) -> Mailbox:
            login = replace(server.login(), mechanism=mechanism)
            return open_mailbox(wanted, login, read_timeout_s=5)

        found = report(examine(server.connection, opened, seconds=60))
    now = {row.form: row.verdict == "understood" for row in found.rows if row.times}
    then = recorded.verdicts()
    both = now.keys() & then.keys()
    assert {form: now[form] for form in both} == {form: then[form] for form in both}
    assert len(both) > 0.8 * len(then)  # a few forms may have come or gone since


def plays_back(found: Examination, authority: Authority) -> None:
    """Its recording is given out, and ends as the server itself did, form by form."""
    with ReplayedServer(
        Recording(json.loads(recording(found, secrets=["secret"]))), authority
    ) as server:

        def opened(wanted: Any, *, mechanism: str = "", fresh: bool = False) -> Mailbox:
            return open_mailbox(
                wanted, replace(server.login(), mechanism=mechanism), read_timeout_s=5
            )

        again = report(examine(server.connection, opened, seconds=60))
    assert {row.form: row.verdict for row in again.rows} == {
        row.form: row.verdict for row in report(found).rows
    }


@pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])
def test_mails_of_a_few_octets_play_back(mode: Mode, authority: Authority) -> None:
    """Shorter than what stands in place of mails, down to none at all but a line."""
    mails = {1: b"\r\n", 2: b"a: b\r\n\r\n", 3: b"Subject: no\r\n\r\nhm\r\n"}
    uidls = {1: b"one", 2: b"two", 3: b"three"}
    script = imap(mails=mails) if mode is Mode.IMAP else pop3(mails=mails, uidls=uidls)
    with ScriptedServer(script) as server:
        found = examined(connection_to(server.port, mode))
    plays_back(found, authority)


@pytest.mark.rooted
@pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])
def test_a_server_that_refuses_what_it_offers_plays_back(
    mailutils: MailServer, mode: Mode, authority: Authority
) -> None:
    """Its SCRAM-SHA-256 and APOP are set up for nobody, and it offers less behind the login."""
    user = f"user-{uuid.uuid4().hex[:8]}"
    mailutils.deliver(user, [mail(number, 300) for number in range(3)])
    port = mailutils.imap_port if mode is Mode.IMAP else mailutils.pop3_port
    found = examined(connection_to(port, mode, username=user))
    refused = "AUTHENTICATE SCRAM-SHA-256" if mode is Mode.IMAP else "APOP name"
    assert verdict_of(report(found), refused) == "refused"
    plays_back(found, authority)


@pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])
@pytest.mark.parametrize(
    "username",
    [
        *("support@kanzlei.example", "mail@user.example", "name.subject@example.org", "user"),
        *("erika.mustermann@kanzlei.example", "KANZLEI\\erika\\akte", "eva", "info@pop3.example"),
        *("doctor", "asked@example.org"),
    ],
)
def test_whatever_a_mailbox_is_called_its_recording_is_given_out(mode: Mode, username: str) -> None:
    script = imap() if mode is Mode.IMAP else pop3(greeting=b"+OK Kanzlei Mustermann for Erika\r\n")
    with ScriptedServer(script) as server:
        found = examined(connection_to(server.port, mode, username=username))
    text = recording(found, secrets=["secret"]).casefold()
    for somebodys in ("kanzlei", "erika", "mustermann", "akte", '"eva"'):
        if somebodys.strip('"') in username.casefold():
            assert somebodys not in text
