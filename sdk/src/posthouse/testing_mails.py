"""Mails for tests of handlers, made of a few words."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTPUTF8
from typing import NamedTuple

from posthouse.mail import Address, mailbox_of


class MadeMail(NamedTuple):
    """What a mail is made of. `html`: beside the text, empty for none; `attachments`: the octets of
    files by their names; `headers`: further fields, and others in place of those that are made."""

    message_id: str
    date: datetime
    subject: str
    sender: str
    sender_name: str
    to: Sequence[str]
    cc: Sequence[str]
    text: str
    html: str
    attachments: Mapping[str, bytes]
    headers: Mapping[str, str]

    def octets(self) -> bytes:
        """The mail (RFC 5322)."""
        mail = EmailMessage()
        mail["Message-ID"], mail["To"] = self.message_id, ", ".join(self.to)
        if self.cc:
            mail["Cc"] = ", ".join(self.cc)
        mail["From"] = mailbox_of(Address(self.sender_name, self.sender))
        mail["Subject"], mail["Date"] = self.subject, self.date
        for name, value in self.headers.items():
            del mail[name]
            mail[name] = value
        mail.set_content(self.text)
        if self.html:
            mail.add_alternative(self.html, subtype="html")
        for name, content in self.attachments.items():
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            main, _, sub = kind.partition("/")
            mail.add_attachment(content, maintype=main, subtype=sub, filename=name)
        addresses = (self.sender, *self.to, *self.cc)
        if all(address.isascii() for address in addresses):
            return mail.as_bytes()
        return mail.as_bytes(policy=SMTPUTF8.clone(linesep="\n"))  # RFC 6532
