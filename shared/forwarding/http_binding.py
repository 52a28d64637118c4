"""What is posted: CloudEvents 1.0.2 HTTP protocol binding, signed as Standard Webhooks 1.0 says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from shared.forwards import Format
from shared.webhook_signatures import sign

STRUCTURED: Final = "application/cloudevents+json; charset=utf-8"
#: Section 3.1.3.2: what is not printable ASCII, and blank, quote and percent, is percent-encoded.
_SAFE: Final = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')


def compose(
    event: bytes, key: str, form: Format, secrets: Sequence[str],
    headers: Mapping[str, str], timestamp: int,
) -> tuple[dict[str, str], bytes]:  # fmt: skip
    """Header fields and body. `event`: CloudEvents JSON; `timestamp`: seconds since 1970.

    `webhook-id` is the idempotency key: the event's id, and with it the number of a delivery on
    purpose. A receiver that had it has had the event. The signature covers
    the body, so in binary mode the `ce-` fields are beside it.
    """
    if form is Format.BINARY:
        body, fields = _binary(event)
    else:
        body, fields = event, {"content-type": STRUCTURED}
    at = str(timestamp)
    signatures = " ".join(sign(secret, key, at, body) for secret in secrets)
    signed = {"webhook-id": key, "webhook-timestamp": at, "webhook-signature": signatures}
    return {**headers, "user-agent": "Posthouse", **fields, **signed}, body


def attributes_and_data(event: bytes, *, quoted: bool = True) -> tuple[str, dict[str, str], bytes]:
    """Content type of the data, attributes as texts (percent-encoded as in header fields where
    `quoted`), and the data: what CloudEvents' binary modes keep apart."""
    fields: dict[str, Any] = json.loads(event)
    data = fields.pop("data")
    content_type = str(fields.pop("datacontenttype", "application/json"))
    attributes = {}
    for name, value in fields.items():
        if value is not None and value != "":
            text = str(value).lower() if isinstance(value, bool) else str(value)
            attributes[name] = quote(text, safe=_SAFE) if quoted else text
    return content_type, attributes, json.dumps(data, separators=(",", ":")).encode()


def _binary(event: bytes) -> tuple[bytes, dict[str, str]]:
    content_type, attributes, data = attributes_and_data(event)
    named = {f"ce-{name}": text for name, text in attributes.items()}
    return data, {"content-type": content_type, **named}
