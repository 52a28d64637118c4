"""What a server writes in place of a mail is told from what a person writes about it."""

from __future__ import annotations

import pytest

from shared.mail.fields import read_fields
from shared.mailbox.errors import unconverted_mails

NOTE = (
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: text/plain; charset="us-ascii"\r\n'
    b"From: Microsoft Exchange Server 2010\r\n"
    b"To: Alice Example <alice@example.org>\r\n"
    b"Subject: Retrieval using the IMAP4 protocol failed for the following\r\n message: 20004\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n"
    b"\r\n"
    b"The server couldn't retrieve the following message:\r\n\r\n"
    b'Subject: "Canceled: budget"\r\nFrom: "Bob" ("bob@example.org")\r\n'
    b"Sent date: 1/20/2026 11:12:26 AM\r\n\r\n"
    b"The message hasn't been deleted. You might be able to view it using either Outlook or "
    b"Outlook Web App. You can also contact the sender to find out what the message says.\r\n"
)


def is_server_note(mail: bytes, size: int, listed: int) -> bool:
    return unconverted_mails.is_server_note(read_fields(mail).octets, mail, size, listed)


@pytest.mark.promise("H4")
@pytest.mark.parametrize(
    "note",
    [
        NOTE,
        NOTE.replace(b"IMAP4", b"POP3"),
        NOTE.replace(b" Server 2010", b" Server"),
        NOTE.replace(b" 2010", b' <"Microsoft Exchange Server"@>'),
        NOTE.replace(b"Retrieval using the IMAP4 protocol failed", b"It was in vain"),
        NOTE.replace(b"couldn't", b"couldn=E2=80=99t").replace(b"Retrieval", b"Abruf"),
        NOTE.replace(b"\r\n", b"\n"),
    ],
)
def test_notes_of_exchange(note: bytes) -> None:
    assert is_server_note(note, len(note), 0)


@pytest.mark.promise("H4")
def test_a_note_in_another_language_is_known_by_its_size() -> None:
    note = (
        b"From: Microsoft Exchange Server\r\nSubject: Abruf fehlgeschlagen: 7\r\n\r\n"
        b"Der Server konnte die folgende Nachricht nicht abrufen:\r\n"
    )
    assert is_server_note(note, len(note), 48_000)
    assert not is_server_note(note, len(note), len(note))


@pytest.mark.parametrize(
    "mail",
    [
        b"Received: from a by b; Mon, 1 Jan 2026 00:00:00 +0000\r\n" + NOTE,
        b"Message-ID: <1@example.org>\r\n" + NOTE,
        NOTE.replace(b"Exchange Server 2010", b"Exchange <admin@example.org>"),
        NOTE.replace(b"Microsoft Exchange Server 2010", b"Bob <bob@example.org>"),
        b"Date: Mon, 1 Jan 2026 00:00:00 +0000\r\nFrom: bob@example.org\r\n"
        b"Subject: Fwd: Retrieval using the IMAP4 protocol failed for the following message: 3\r\n"
        b"\r\n" + NOTE,
        b"\r\n" + NOTE,
        b"From: Microsoft Exchange Server\r\nSubject: hello\r\n\r\ntext\r\n",
        b"",
    ],
)
def test_what_a_person_sends_is_a_mail(mail: bytes) -> None:
    assert not is_server_note(mail, len(mail), 0)
