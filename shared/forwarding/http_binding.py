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


def _binary(event: bytes) -> tuple[bytes, dict[str, str]]:
    attributes: dict[str, Any] = json.loads(event)
    data = attributes.pop("data")
    content_type = str(attributes.pop("datacontenttype", "application/json"))
    fields = {"content-type": content_type}
    for name, value in attributes.items():
        if value is not None and value != "":
            text = str(value).lower() if isinstance(value, bool) else str(value)
            fields[f"ce-{name}"] = quote(text, safe=_SAFE)
    return json.dumps(data, separators=(",", ":")).encode(), fields
