"""One mail that breaks the session stops no other: they all come within two intervals.

For an administrator: until the mail is quarantined the connection is failing with what happened;
then it is well, the mail stands in quarantine with the reason (page, `mail-quarantined` alert,
`posthouse_quarantined_total{code="breaks-session"}`), and its original is as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.breaking import (
    ALICE,
    BAD,
    BY_NUMBER,
    COUNT,
    MAILS,
    OTHERS,
    breaking_imap,
    breaking_pop3,
    check_quarantined,
    check_two_intervals,
    hangs_up,
    hangs_up_in_the_middle,
    refuses,
    run,
    says_goodbye,
    talks_nonsense,
)
from tests.integration.graph.application import application_credential
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.graph import GraphServer
from tests.servers.oidc import OidcServer
from tests.servers.scripted import (
    Conversation,
    ScriptedServer,
    imap,
    pop3,
    read_set,
)

SCRIPTED: dict[str, tuple[str, Callable[[Conversation, bytes], None], str]] = {
    "imap hangs up": ("imap", hangs_up, "breaks-session"),
    "imap hangs up in the middle": ("imap", hangs_up_in_the_middle, "breaks-session"),
    "imap says goodbye": ("imap", says_goodbye, "breaks-session"),
    "imap talks nonsense": ("imap", talks_nonsense, "breaks-session"),
    "imap refuses for now": ("imap", refuses, "mail-refused"),
    "pop3 hangs up": ("pop3", hangs_up, "breaks-session"),
    "pop3 talks nonsense": ("pop3", talks_nonsense, "breaks-session"),
}


@pytest.mark.promise("M27", "H4", "I5")
@pytest.mark.parametrize("case", SCRIPTED, ids=SCRIPTED)
@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
def test_one_mail_that_breaks_the_session_stops_no_other(
    case: str, after_download: str, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    mode, breaks, code = SCRIPTED[case]
    stack = build_stack(redis_url)
    stack.add_handler()
    script = (
        imap({"UID FETCH": breaking_imap(breaks)}, mails=BY_NUMBER, settles=True)
        if mode == "imap"
        else pop3({"RETR": breaking_pop3(breaks)}, mails=BY_NUMBER)
    )
    with ScriptedServer(script) as there:
        stack.start("scheduler", "fetcher", "decryptor")
        connection = stack.add_plain_connection(
            there.port, name="broken", mode=mode, after_download=after_download
        )
        check_two_intervals(stack, connection, redis_url, OTHERS)
        if code == "mail-refused" and after_download == "delete":
            # Nothing is left that the server could give to show whose fault it is.
            run(stack, connection)
            asked = "SELECT health, error ->> 'message' FROM connection_state"
            ((health, message),) = stack.query(asked)
            assert health == "failing"
            assert "Internal error occurred" in message
            assert stack.count("quarantine") == 0
        else:
            check_quarantined(stack, connection, code)
        stack.stop()
    touched = [
        line
        for line in there.heard
        if (b"STORE" in line or b"EXPUNGE" in line or b"DELE" in line)
        and BAD in read_set(line.split()[-3] if b"STORE" in line else line.split()[-1], COUNT)
    ]
    assert touched == []


def unreadable_file(box: Dovecot, user: str) -> None:
    """The server's own account cannot read it: another owner's, after a restore by root."""
    file = mail_file(box, user)
    file.unlink()
    file.symlink_to("/proc/1/mem")


def lying_name(box: Dovecot, user: str) -> None:
    """Its name says another size than the file has, as after an editor or a faulty restore."""
    file = mail_file(box, user)
    named, _, rest = file.name.partition(",S=")
    file.rename(file.with_name(f"{named},S=100,W=102:{rest.rpartition(':')[2]}"))


def mail_file(box: Dovecot, user: str) -> Path:
    """The file of the mail that is bad."""
    (found,) = [
        file
        for file in (box.home(user)).rglob("*")
        if file.is_file()
        and file.parent.name in ("cur", "new")
        and file.read_bytes().replace(b"\r\n", b"\n") == BY_NUMBER[BAD].replace(b"\r\n", b"\n")
    ]
    return found


@pytest.mark.promise("M27", "H4", "I5")
@pytest.mark.parametrize(
    ("mode", "spoil", "code"),
    [
        ("imap", unreadable_file, "breaks-session"),
        ("imap", lying_name, "breaks-session"),
        ("pop3", unreadable_file, "mail-refused"),
    ],
)
def test_one_mail_that_a_real_dovecot_cannot_read_stops_no_other(
    mode: str,
    spoil: Callable[[Dovecot, str], None],
    code: str,
    dovecot: Dovecot,
    mail_user: str,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    dovecot.deliver(mail_user, MAILS)
    spoil(dovecot, mail_user)
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    connection = stack.watch(dovecot, mail_user, mode=mode)
    check_two_intervals(stack, connection, redis_url, OTHERS)
    check_quarantined(stack, connection, code)


@pytest.mark.promise("M27", "H4", "I5")
@pytest.mark.parametrize(
    "fault", [{"status": 0, "after": 3}, {"status": 504, "retry_after": 0.1}], ids=["cut", "504"]
)
def test_one_mail_that_graph_never_gives_whole_stops_no_other(
    fault: dict[str, float],
    graph_server: GraphServer,
    oidc: OidcServer,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    graph_server.trust(oidc.public_key)
    box = graph_server.mailbox(ALICE)
    box.deliver(MAILS)
    bad = box.in_folder(box.inbox)[BAD - 1]
    graph_server.fail(f"{bad.id}/$value", times=1000, **fault)
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    connection = stack.add_connection(
        password="",
        name="graph",
        mode="microsoft-graph",
        username=ALICE,
        credential_id=application_credential(stack, graph_server, oidc),
    )
    check_two_intervals(stack, connection, redis_url, OTHERS)
    check_quarantined(stack, connection, "mail-refused")
    assert [item for item in box.in_folder(box.inbox) if not item.read] == [bad]
