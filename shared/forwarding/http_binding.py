"""What is posted: CloudEvents 1.0.2 HTTP protocol binding, signed as Standard Webhooks 1.0 says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from shared.forwarding.content_modes import fields_and_body
from shared.forwards import Format
from shared.webhook_signatures import sign

STRUCTURED: Final = "application/cloudevents+json; charset=utf-8"


def compose(
    event: bytes, key: str, form: Format, secrets: Sequence[str],
    headers: Mapping[str, str], timestamp: int,
) -> tuple[dict[str, str], bytes]:  # fmt: skip
    """Header fields and body. `event`: CloudEvents JSON; `timestamp`: seconds since 1970.

    `webhook-id` is the idempotency key: the event's id, and with it the number of a delivery on
    purpose. A receiver that had it has had the event. The signature covers
    the body, so in binary mode the `ce-` fields are beside it.
    """
    fields, body = fields_and_body(event, form, structured=STRUCTURED, prefix="ce-")
    at = str(timestamp)
    signatures = " ".join(sign(secret, key, at, body) for secret in secrets)
    signed = {"webhook-id": key, "webhook-timestamp": at, "webhook-signature": signatures}
    return {**headers, "user-agent": "Posthouse", **fields, **signed}, body
