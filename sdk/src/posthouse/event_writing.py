"""The JSON of an event, made for speed."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol

from posthouse.event_data import (
    Connection,
    Original,
    Raw,
    Redelivery,
    Revocation,
    Security,
)

TYPE = "posthouse.mail.received.v1"
CONTENT_TYPE = "application/cloudevents+json"

_UTC_OFFSET = timedelta(0)
#: Undecodable octets of a header may come as half a surrogate pair, which is no text to JSON.
_LONE_SURROGATE = re.compile(
    r"(?<!\\)((?:\\\\)*)(?:(\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2})|\\ud[89a-f][0-9a-f]{2})"
)


class HeaderFields(Protocol):
    """What of a header stands in an event; `posthouse.event_data.Headers` is such."""

    @property
    def message_id(self) -> str: ...
    @property
    def sender(self) -> str: ...
    @property
    def to(self) -> Sequence[str]: ...
    @property
    def cc(self) -> Sequence[str]: ...
    @property
    def subject(self) -> str: ...
    @property
    def date(self) -> datetime | None: ...
    @property
    def sender_name(self) -> str: ...
    @property
    def to_names(self) -> Sequence[str]: ...
    @property
    def cc_names(self) -> Sequence[str]: ...


def build_event(
    *,
    id: str,
    connection: Connection,
    sequence: int,
    headers: HeaderFields,
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

    The same arguments give the same octets, so a repeat is a true repeat. `traceparent` is the
    trace that the event belongs to (CloudEvents' distributed tracing extension), `correlation_id`
    what every log line of Posthouse about this mail carries. `base64_encode` may be a faster one
    than the standard library's, without line ends, and `json_encode` a faster one than
    `encode_json`, as compact as that.
    """
    at = _rfc3339_again(downloaded_at)
    data = {
        "connection": {
            "id": connection.id,
            "name": connection.name,
            "mode": connection.mode,
            "mailbox": connection.mailbox,
        },
        "sequence": sequence,
        "headers": header_fields(headers),
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
    event: dict[str, Any] = {
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
    event["data"] = data
    octets = (json_encode or encode_json)(event)
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


def header_fields(headers: HeaderFields) -> dict[str, Any]:
    """`data.headers` of an event."""
    return {
        "message_id": headers.message_id,
        "from": headers.sender,
        "from_name": headers.sender_name,
        "to_names": _names(headers.to_names, headers.to),
        "cc_names": _names(headers.cc_names, headers.cc),
        "to": headers.to,
        "cc": headers.cc,
        "subject": headers.subject,
        "date": None if headers.date is None else _rfc3339(headers.date),
    }


def _names(names: Sequence[str], addresses: Sequence[str]) -> Sequence[str]:
    """A name for each address, whatever was given."""
    missing = len(addresses) - len(names)
    return names if not missing else [*names[: len(addresses)], *[""] * missing]


def security_fields(security: Security) -> dict[str, Any]:
    """The findings as they travel (`data.security`)."""
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
    if at.utcoffset() != _UTC_OFFSET:
        at = at.astimezone(UTC)
    return at.isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"


#: Mails of a batch were downloaded at the same time.
_rfc3339_again = lru_cache(maxsize=256)(_rfc3339)
