"""The event that Posthouse sends for every mail: CloudEvents 1.0, structured JSON.

Reading is tolerant: unknown fields are ignored, and a field that this version knows but the
sender does not fill has its default. What may change without a new `type` is only such an addition.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import formataddr
from typing import IO, Any

from posthouse.contents import Attachment, decoded_text, part_of, read_message
from posthouse.mail import Mail, mail_fields, read_mail
from posthouse.raw import open_url

TYPE = "posthouse.mail.received.v1"
CONTENT_TYPE = "application/cloudevents+json"

#: Undecodable octets of a header may come as half a surrogate pair, which is no text to JSON.
_LONE_SURROGATE = re.compile(
    r"(?<!\\)((?:\\\\)*)(?:(\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2})|\\ud[89a-f][0-9a-f]{2})"
)


class InvalidEvent(ValueError):
    """What came from the queue is no mail event of Posthouse."""


class RawMismatch(ValueError):
    """The bytes behind an event are not those that it was made for."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The mailbox that the mail came from. `mailbox` is the user name or the shared mailbox."""

    id: int
    name: str = ""
    mode: str = ""
    mailbox: str = ""


@dataclass(frozen=True, slots=True)
class Headers:
    """A few header fields, decoded (RFC 2047); empty where the mail has none.

    `sender` is the field `from` of the JSON, the address of the first author, and empty where From
    has none; `date` is the Date field where it says one instant. `to_names` and `cc_names` have a
    display name for each address, empty where the sender gave none.
    """

    message_id: str = ""
    sender: str = ""
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    subject: str = ""
    date: datetime | None = None
    sender_name: str = ""
    to_names: tuple[str, ...] = ()
    cc_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Raw:
    """The bytes of a mail (RFC 5322): either `inline`, or at `url` for the handler's token."""

    inline: bytes | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Original:
    """The mail as it was downloaded, where `raw` is what was decrypted or signed in it."""

    url: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Redelivery:
    """Why a handler that had this mail gets it once more: somebody asked for it.

    `count` rises with every asking, of this mail; `reason` is what was given: `requested` where
    nothing was, `opened-again` where the mail stayed encrypted before.
    """

    count: int
    time: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a mail. `kind`: `encryption`, `signature`, `compression`; `format`: `smime`,
    `openpgp`.

    `verdict` is a word of `Security.status` or of `Security.signature`; `covers` is what a
    signature lies around: `content`, `ciphertext` (an encryption inside it) or `part`.
    """

    kind: str
    format: str
    verdict: str
    signer: str = ""
    covers: str = ""


@dataclass(frozen=True, slots=True)
class Revocation:
    """Whether the authority has revoked the certificate of the signer, as far as it was known when
    the mail was judged.

    `status`: `good`, `revoked`, `unknown` (there is no answer that counts), `not-checked` (nobody
    was asked yet). `source`: `crl` or `ocsp`. `as_of` is the time for which the authority spoke,
    None where it did not.
    """

    status: str = "not-checked"
    source: str = ""
    as_of: datetime | None = None
    reason: str = ""
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Security:
    """What Posthouse found out about encryption and signature. `details` has every field.

    `status`: `none`, `decrypted`, or why not (`no_recipient`, `unsupported`, `failed`).
    `signature`: `none`, `valid`, or what keeps it from being that: `mismatch` (the signer is not
    the one author that the mail shows), `partial` (it does not cover all of the content),
    `ambiguous` (readers differ on what the mail says), `untrusted` (nobody vouches for the
    signer), `revoked` (the authority has revoked the certificate), `invalid`. `integrity`: `none`
    or `aead`. `revocation` is None where no authority vouches for the signer.
    """

    encrypted: bool = False
    status: str = "none"
    certificate: str = ""
    integrity: str = "none"
    signature: str = "none"
    signer: str = ""
    reason: str = ""
    #: From the outermost to the innermost.
    layers: tuple[Layer, ...] = ()
    revocation: Revocation | None = None
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MailEvent:
    """One mail. `id` is the same whenever the same mail is delivered again.

    `size` (octets) and `sha256` (hex) are those of the bytes that `raw` stands for; `sequence`
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
    security: Security = Security()
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
            security=self.security.details or _security_fields(self.security),
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
            raise RawMismatch(f"the bytes of event {self.id} do not have its SHA-256")
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
            raise RawMismatch(f"event {self.id} carries no bytes and no url")
        return open_url(self.raw.url, token=token, timeout_s=timeout_s, posthouse_url=posthouse_url)

    @property
    def text(self) -> str:
        """The text of the mail, as far as it rides in the event (`mail.text_truncated`)."""
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

        Out of the event where the mail rides in it, else fetched, this part alone. Raises OSError,
        NoSuchPart.
        """
        if self.raw.inline is not None:
            return part_of(self.raw.inline, path)
        if not self.raw.url:
            raise RawMismatch(f"event {self.id} carries no bytes and no url")
        address = f"{self.raw.url.removesuffix('/raw')}/parts/{path}"
        return open_url(address, token=token, timeout_s=timeout_s, posthouse_url=posthouse_url)

    def reply_headers(self) -> dict[str, str]:
        """What makes an answer part of its thread (RFC 5322 section 3.6.4): `In-Reply-To`,
        `References`, `Subject`, and `To`: who asked for answers, else the author.

        `In-Reply-To` and `References` are absent where the mail has no message id.
        """
        mail, own = self.mail, self.headers.message_id
        to = mail.reply_to or mail.senders
        subject = self.headers.subject
        found = {
            "To": ", ".join(formataddr((one.name, one.address)) for one in to),
            "Subject": subject if subject[:3].lower() == "re:" else f"Re: {subject}".strip(),
        }
        if own:
            before = mail.references or mail.in_reply_to[:1]
            known = [one for one in dict.fromkeys(before) if one != own]
            found["In-Reply-To"] = own
            found["References"] = " ".join([*known[:1], *known[1:][-20:], own])
        return found


def build_event(
    *,
    id: str,
    connection: Connection,
    sequence: int,
    headers: Headers,
    size: int,
    sha256: str,
    raw: Raw,
    original: Original | None = None,
    mail: Mapping[str, Any],
    security: Mapping[str, Any],
    downloaded_at: datetime,
    redelivery: Redelivery | None = None,
    traceparent: str = "",
    correlation_id: str = "",
    base64_encode: Callable[[bytes], bytes] = base64.b64encode,
    json_encode: Callable[[Any], bytes] | None = None,
) -> bytes:
    """The JSON of an event, made for speed: base64 is spliced in, never seen by the encoder.

    The same arguments give the same bytes, so a repeat is a true repeat. `traceparent` is the
    trace that the event belongs to (CloudEvents' distributed tracing extension), `correlation_id`
    what every log line of Posthouse about this mail carries. `base64_encode` may be a faster one
    than the standard library's, without line ends, and `json_encode` a faster one than
    `encode_json`, as compact as that.
    """
    at = _rfc3339(downloaded_at)
    data = {
        "connection": {
            "id": connection.id,
            "name": connection.name,
            "mode": connection.mode,
            "mailbox": connection.mailbox,
        },
        "sequence": sequence,
        "headers": {
            "message_id": headers.message_id,
            "from": headers.sender,
            "from_name": headers.sender_name,
            "to_names": _names(headers.to_names, headers.to),
            "cc_names": _names(headers.cc_names, headers.cc),
            "to": headers.to,
            "cc": headers.cc,
            "subject": headers.subject,
            "date": None if headers.date is None else _rfc3339(headers.date),
        },
        "mail": mail,
        "size": size,
        "sha256": sha256,
        "security": security,
        "downloaded_at": at,
    }
    if original is not None:
        data["original"] = {
            "url": original.url,
            "size": original.size,
            "sha256": original.sha256,
        }
    if redelivery is not None:
        data["redelivery"] = {
            "count": redelivery.count,
            "time": _rfc3339(redelivery.time),
            "reason": redelivery.reason,
        }
    if raw.inline is None:
        data["raw"] = {"url": raw.url or ""}
    event = {
        "specversion": "1.0",
        "id": id,
        "source": f"/connections/{connection.id}",
        "type": TYPE,
        "time": at,
        "subject": f"messages/{id}",
        "datacontenttype": "application/json",
    }
    if traceparent:
        event["traceparent"] = traceparent
    if correlation_id:
        event["correlationid"] = correlation_id
    octets = (json_encode or encode_json)({**event, "data": data})
    if raw.inline is None:
        return octets
    # Behind the last of `data`, which is the last of the event.
    begun = memoryview(octets)[: -len(b"}}")]
    return b"".join((begun, b',"raw":{"inline":"', base64_encode(raw.inline), b'"}}}'))


_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def encode_json(value: Any) -> bytes:
    """Compact JSON in ASCII; half of a surrogate pair becomes the replacement character."""
    octets = _encode(value).encode()
    if b"\\ud" in octets:
        octets = _LONE_SURROGATE.sub(_paired, octets.decode()).encode()
    return octets


def _paired(match: re.Match[str]) -> str:
    return match[1] + (match[2] or "\\ufffd")


def _names(names: Sequence[str], addresses: Sequence[str]) -> Sequence[str]:
    """A name for each address, whatever was given."""
    missing = len(addresses) - len(names)
    return names if not missing else [*names[: len(addresses)], *[""] * missing]


def _security_fields(security: Security) -> dict[str, Any]:
    return {
        "encrypted": security.encrypted,
        "status": security.status,
        "certificate": security.certificate,
        "integrity": security.integrity,
        "signature": security.signature,
        "signer": security.signer,
        "reason": security.reason,
        "layers": [
            {
                "kind": one.kind,
                "format": one.format,
                "verdict": one.verdict,
                "signer": one.signer or None,
                "covers": one.covers or None,
            }
            for one in security.layers
        ],
        "revocation": security.revocation and _revocation_fields(security.revocation),
    }


def _revocation_fields(revocation: Revocation) -> dict[str, Any]:
    return {
        "status": revocation.status,
        "source": revocation.source or None,
        "as_of": revocation.as_of and _rfc3339(revocation.as_of),
        "reason": revocation.reason,
        "revoked_at": revocation.revoked_at and _rfc3339(revocation.revoked_at),
    }


def _rfc3339(at: datetime) -> str:
    """UTC with microseconds, as RFC 3339 wants it."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return at.isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"


def _read(fields: Mapping[str, Any]) -> MailEvent:
    data = fields["data"]
    connection, headers, raw = data["connection"], data.get("headers") or {}, data["raw"]
    original = data.get("original")
    inline = raw.get("inline")
    downloaded_at = datetime.fromisoformat(data["downloaded_at"])
    return MailEvent(
        id=_text(fields["id"]),
        source=_text(fields["source"]),
        time=datetime.fromisoformat(fields.get("time") or data["downloaded_at"]),
        connection=Connection(
            id=int(connection["id"]),
            name=_text(connection.get("name")),
            mode=_text(connection.get("mode")),
            mailbox=_text(connection.get("mailbox")),
        ),
        sequence=int(data["sequence"]),
        headers=Headers(
            message_id=_text(headers.get("message_id")),
            sender=_text(headers.get("from")),
            to=_texts(headers.get("to")),
            cc=_texts(headers.get("cc")),
            subject=_text(headers.get("subject")),
            date=datetime.fromisoformat(headers["date"]) if headers.get("date") else None,
            sender_name=_text(headers.get("from_name")),
            to_names=_texts(headers.get("to_names")),
            cc_names=_texts(headers.get("cc_names")),
        ),
        size=int(data["size"]),
        sha256=_text(data["sha256"]),
        raw=Raw(
            inline=None if inline is None else base64.b64decode(inline, validate=True),
            url=raw.get("url"),
        ),
        original=None
        if not original
        else Original(_text(original["url"]), int(original["size"]), _text(original["sha256"])),
        security=_security(data.get("security") or {}),
        mail=read_mail(data.get("mail") or {}),
        downloaded_at=downloaded_at,
        redelivery=_read_redelivery(data.get("redelivery")),
        traceparent=_text(fields.get("traceparent")),
        correlation_id=_text(fields.get("correlationid")),
    )


_LAYER = ("kind", "format", "verdict", "signer", "covers")


def _security(fields: Mapping[str, Any]) -> Security:
    return Security(
        encrypted=bool(fields.get("encrypted")),
        status=_text(fields.get("status")) or "none",
        certificate=_text(fields.get("certificate")),
        integrity=_text(fields.get("integrity")) or "none",
        signature=_text(fields.get("signature")) or "none",
        signer=_text(fields.get("signer")),
        reason=_text(fields.get("reason")),
        layers=tuple(
            Layer(*(_text(one.get(name)) for name in _LAYER))
            for one in fields.get("layers") or ()
            if isinstance(one, Mapping)
        ),
        revocation=_read_revocation(fields.get("revocation")),
        details=dict(fields),
    )


def _read_redelivery(fields: Any) -> Redelivery | None:
    if not isinstance(fields, Mapping):
        return None
    at = datetime.fromisoformat(fields["time"])
    return Redelivery(int(fields["count"]), at, _text(fields.get("reason")))


def _read_revocation(fields: Any) -> Revocation | None:
    if not isinstance(fields, Mapping):
        return None
    as_of, revoked_at = _text(fields.get("as_of")), _text(fields.get("revoked_at"))
    return Revocation(
        status=_text(fields.get("status")) or "not-checked",
        source=_text(fields.get("source")),
        as_of=datetime.fromisoformat(as_of) if as_of else None,
        reason=_text(fields.get("reason")),
        revoked_at=datetime.fromisoformat(revoked_at) if revoked_at else None,
    )


def _text(value: Any) -> str:
    """Tolerant of null and of numbers; a structure where text belongs is shown as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _texts(value: Sequence[Any] | str | None) -> tuple[str, ...]:
    if not value:
        return ()
    return (value,) if isinstance(value, str) else tuple(_text(item) for item in value)
