"""The event that Posthouse sends for every mail: CloudEvents 1.0, structured JSON.

Reading is tolerant: unknown fields are ignored, and a field that this version knows but the
sender does not fill has its default. What may change without a new `type` is only such an addition.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from typing import IO, Any

from posthouse.contents import (
    NO_SUCH_PART,
    Attachment,
    NoSuchPart,
    decoded_text,
    part_of,
    read_message,
)
from posthouse.errors import PosthouseError
from posthouse.event_data import (
    Connection,
    Headers,
    Original,
    Raw,
    Redelivery,
    Security,
)
from posthouse.event_reading import read_redelivery, read_security, text_of, texts_of
from posthouse.event_writing import TYPE, build_event, security_fields
from posthouse.mail import Mail, mail_fields, mailbox_of, read_mail
from posthouse.raw import RawUnavailable, open_url
from posthouse.subjects import answering


class InvalidEvent(PosthouseError, ValueError):
    """What came from the queue is no mail event of Posthouse."""


class RawMismatch(PosthouseError, ValueError):
    """The octets behind an event are not those that it was made for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailEvent:
    """One mail. `id` is the same whenever the same mail is delivered again.

    `size` (octets) and `sha256` (hex) are those of the octets that `raw` stands for; `sequence`
    rises with every mail of a connection. `redelivery` is None unless the handler had the mail and
    somebody asked for it once more.
    """

    id: str
    source: str
    time: datetime
    connection: Connection
    sequence: int
    headers: Headers
    size: int
    sha256: str
    raw: Raw
    original: Original | None = None
    security: Security = field(default_factory=Security)
    mail: Mail = field(default_factory=Mail)
    downloaded_at: datetime
    redelivery: Redelivery | None = None
    traceparent: str = ""
    correlation_id: str = ""
    type: str = TYPE
    #: The octets that this was read from, for programs that pass an event on as it is.
    received: bytes = field(default=b"", repr=False, compare=False)

    @property
    def idempotency_key(self) -> str:
        """What to keep to know a repeat: the `id`, and with it the number of a redelivery, so that
        what somebody asks for once more is handled once more."""
        return self.id if self.redelivery is None else f"{self.id}/{self.redelivery.count}"

    @classmethod
    def from_json(cls, event: bytes | str) -> MailEvent:
        """Reads an event. Raises InvalidEvent, saying what is wrong with it."""
        try:
            fields = json.loads(event)
            if fields["specversion"] != "1.0":
                raise InvalidEvent(f"CloudEvents {fields['specversion']} is not known here")
            if fields["type"] != TYPE:
                raise InvalidEvent(f"its type is {fields['type']}, not {TYPE}")
            read = _read(fields)
            octets = event.encode() if isinstance(event, str) else event
            object.__setattr__(read, "received", octets)  # nobody else has it yet
            return read
        except InvalidEvent:
            raise
        except KeyError as error:
            raise InvalidEvent(f"the field {error.args[0]} is missing") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidEvent(f"not readable as a mail event: {error}") from error

    def to_json(self) -> bytes:
        """The event as it travels."""
        return build_event(
            id=self.id,
            connection=self.connection,
            sequence=self.sequence,
            headers=self.headers,
            size=self.size,
            sha256=self.sha256,
            raw=self.raw,
            original=self.original,
            mail=self.mail.details or mail_fields(self.mail),
            security=self.security.details or security_fields(self.security),
            downloaded_at=self.downloaded_at,
            redelivery=self.redelivery,
            traceparent=self.traceparent,
            correlation_id=self.correlation_id,
        )

    def raw_bytes(
        self,
        *,
        token: str | None = None,
        timeout_s: float = 30.0,
        posthouse_url: str | None = None,
    ) -> bytes:
        """The mail, from the event itself or fetched from its url; checked against `sha256`.

        `token` is the handler's token (default: the environment's POSTHOUSE_HANDLER_TOKEN); it is
        sent to the origin of `posthouse_url` (default: POSTHOUSE_URL) alone. Raises OSError where
        the mail cannot be fetched, RawMismatch where it is not the mail of this event.
        For a mail that is too large for memory see `open_raw`.
        """
        if self.raw.inline is not None:
            content = self.raw.inline
        else:
            with self.open_raw(
                token=token, timeout_s=timeout_s, posthouse_url=posthouse_url
            ) as stream:
                content = stream.read()
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise RawMismatch(f"the octets of event {self.id} do not have its SHA-256")
        return content

    def open_raw(
        self,
        *,
        token: str | None = None,
        timeout_s: float = 30.0,
        posthouse_url: str | None = None,
    ) -> IO[bytes]:
        """The mail as a binary stream, to be closed by the caller; not checked against `sha256`."""
        if self.raw.inline is not None:
            import io

            return io.BytesIO(self.raw.inline)
        if not self.raw.url:
            raise RawMismatch(f"event {self.id} carries no octets and no url")
        return open_url(self.raw.url, token=token, timeout_s=timeout_s, posthouse_url=posthouse_url)

    @property
    def text(self) -> str:
        """The text of the mail, as far as it is in the event (`mail.text_truncated`)."""
        return self.mail.text

    @property
    def is_automatic(self) -> bool:
        """Whether a program sent it: an answer to it should not go out (RFC 3834 section 2)."""
        return self.mail.is_automatic

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The parts that are more than the text of the mail, to open or to save."""
        return tuple(Attachment(part, self.open_part) for part in self.mail.attachments)

    def message(
        self,
        *,
        token: str | None = None,
        timeout_s: float = 30.0,
        posthouse_url: str | None = None,
    ) -> EmailMessage:
        """The whole mail as Python's `email` reads it; in memory. Raises as `raw_bytes` does."""
        raw = self.raw_bytes(token=token, timeout_s=timeout_s, posthouse_url=posthouse_url)
        return read_message(raw)

    def html(
        self,
        *,
        token: str | None = None,
        timeout_s: float = 30.0,
        posthouse_url: str | None = None,
    ) -> str:
        """The HTML form, whole, as it was sent: anything may be in it. Empty where there is none.

        Raises as `open_part` does.
        """
        if not self.mail.html:
            return ""
        charset = next((p.charset for p in self.mail.parts if p.path == self.mail.html), "")
        with self.open_part(
            self.mail.html, token=token, timeout_s=timeout_s, posthouse_url=posthouse_url
        ) as stream:
            return decoded_text(stream.read(), charset)

    def open_part(
        self,
        path: str,
        *,
        token: str | None = None,
        timeout_s: float = 30.0,
        posthouse_url: str | None = None,
    ) -> IO[bytes]:
        """One part, decoded, by its path in `mail.parts`: a stream, to be closed by the caller.

        Out of the event where the mail is in it, else fetched, this part alone. Raises OSError
        (RawUnavailable), NoSuchPart, and RawMismatch where the event has neither octets nor a url.
        """
        if self.raw.inline is not None:
            return part_of(self.raw.inline, path, self.mail.parts)
        if not self.raw.url:
            raise RawMismatch(f"event {self.id} carries no octets and no url")
        address = f"{self.raw.url.removesuffix('/raw')}/parts/{path}"
        try:
            return open_url(address, token=token, timeout_s=timeout_s, posthouse_url=posthouse_url)
        except RawUnavailable as error:
            if error.code == NO_SUCH_PART:
                raise NoSuchPart(f"the mail has no part {path}") from error
            raise

    def reply_headers(self) -> dict[str, str]:
        """What makes an answer part of its thread (RFC 5322 section 3.6.4): `In-Reply-To`,
        `References`, `Subject`, and `To`: who asked for answers, else the author.

        `In-Reply-To` and `References` are absent where the mail has no message id.
        """
        mail, own = self.mail, self.headers.message_id
        to = mail.reply_to or mail.senders
        subject = self.headers.subject
        found = {
            "To": ", ".join(map(mailbox_of, to)),
            "Subject": answering(subject),
        }
        if own:
            # Of several mails that it answers none is the one that its thread began with.
            answered = mail.in_reply_to if len(mail.in_reply_to) == 1 else ()
            before = mail.references or answered
            known = [one for one in dict.fromkeys(before) if one != own]
            found["In-Reply-To"] = own
            found["References"] = " ".join([*known[:1], *known[1:][-20:], own])
        return found


def _read(fields: Mapping[str, Any]) -> MailEvent:
    data = fields["data"]
    connection, headers, raw = data["connection"], data.get("headers") or {}, data["raw"]
    original = data.get("original")
    inline = raw.get("inline")
    downloaded_at = datetime.fromisoformat(data["downloaded_at"])
    return MailEvent(
        id=text_of(fields["id"]),
        source=text_of(fields["source"]),
        time=datetime.fromisoformat(fields.get("time") or data["downloaded_at"]),
        connection=Connection(
            id=int(connection["id"]),
            name=text_of(connection.get("name")),
            mode=text_of(connection.get("mode")),
            mailbox=text_of(connection.get("mailbox")),
        ),
        sequence=int(data["sequence"]),
        headers=Headers(
            message_id=text_of(headers.get("message_id")),
            sender=text_of(headers.get("from")),
            to=texts_of(headers.get("to")),
            cc=texts_of(headers.get("cc")),
            subject=text_of(headers.get("subject")),
            date=datetime.fromisoformat(headers["date"]) if headers.get("date") else None,
            sender_name=text_of(headers.get("from_name")),
            to_names=texts_of(headers.get("to_names")),
            cc_names=texts_of(headers.get("cc_names")),
        ),
        size=int(data["size"]),
        sha256=text_of(data["sha256"]),
        raw=Raw(
            inline=None if inline is None else base64.b64decode(inline, validate=True),
            url=raw.get("url"),
        ),
        original=None
        if not original
        else Original(text_of(original["url"]), int(original["size"]), text_of(original["sha256"])),
        security=read_security(data.get("security") or {}),
        mail=read_mail(data.get("mail") or {}),
        downloaded_at=downloaded_at,
        redelivery=read_redelivery(data.get("redelivery")),
        traceparent=text_of(fields.get("traceparent")),
        correlation_id=text_of(fields.get("correlationid")),
    )
